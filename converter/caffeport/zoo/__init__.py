"""Published Caffe models: where they are, what their pixels go through, what was measured of them here.

for model in caffeport.zoo.MODELS: print(model.name, model.recipe())
caffeport.zoo.find("39b20f7a57bb8176cc9466cea4dfd52da6a6f876de60c7ab222a309f2d0ca08c").name   # "mtcnn-rnet"
"""

from .known import MODELS, PRESETS, find, named, preset, recognise
from .model import Model, Preset, Weights

__all__ = ["MODELS", "PRESETS", "Model", "Preset", "Weights", "find", "named", "preset", "recognise"]
