"""Caffe's files: prototxt, caffemodel, HDF5 and binaryproto, of every version of Caffe."""
