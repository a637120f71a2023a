"""Puts the face layers into a Caffe tree, and takes them out again. Standard library only, Python 3.6 or newer.

proto.py and source_text.py read, merge.py, filler.py and registry.py say what changes in a file, tree.py and layers.py
know the two sides, plan.py decides, record.py and changes.py write and take back, report.py and cli.py talk.
"""
