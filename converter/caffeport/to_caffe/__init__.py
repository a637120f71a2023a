"""A net back in Caffe's files, and a real Caffe that runs it."""
