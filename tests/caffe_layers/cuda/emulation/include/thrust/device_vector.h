#pragma once
// Caffe includes this and uses nothing of it.
