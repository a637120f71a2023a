"""Where the texts of prototxt/ come from: layers make backbones and heads, and these the files."""
