# test/layers.testbin: the layers' tests, as they stand in the copy; and a ctest for each layer and device.
set(layer_tests "")
set(own_layers OFF)
file(GLOB test_files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/caffe_layers/test_*_layer.cpp")
set(test_sources "${CAFFE_COPY}/src/caffe/test/test_caffe_main.cpp")
foreach(file ${test_files})
  get_filename_component(name "${file}" NAME)
  if(EXISTS "${CAFFE_COPY}/src/caffe/test/${name}")  # it is not for a layer that the tree has of its own
    list(APPEND test_sources "${CAFFE_COPY}/src/caffe/test/${name}")
    string(REGEX REPLACE "^test_(.*)\\.cpp$" "\\1" test "${name}")
    list(APPEND layer_tests "${test}")
  else()
    set(own_layers ON)
  endif()
endforeach()

# Tests that only a GPU can run; they don't go into trees.
set(device_tests "")
if(NOT CPU_ONLY)
  list(APPEND device_tests block_reduce)
  list(APPEND test_sources "${CMAKE_SOURCE_DIR}/tests/caffe_layers/cuda/test_block_reduce.cu")
  if(NOT own_layers)  # the tree's own need not give the same on host and device
    list(APPEND device_tests real_sizes)
    list(APPEND test_sources "${CMAKE_SOURCE_DIR}/tests/caffe_layers/cuda/test_real_sizes.cpp"
      "${CMAKE_SOURCE_DIR}/tests/caffe_layers/cuda/test_real_sizes_others.cpp")
  endif()
endif()

add_executable(layers.testbin ${test_sources})
set_target_properties(layers.testbin PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/test")
target_link_libraries(layers.testbin PRIVATE gtest caffe)
target_compile_options(layers.testbin PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O1>)  # they are compiled more often than run

# add_layer_test(NAME LABEL FILTER): FILTER with the name of NAME's test case, which NAME is in snake case, for @.
function(add_layer_test test label filter)
  string(REPLACE "_" ";" words "${test}")
  set(case "")
  foreach(word ${words})
    string(SUBSTRING "${word}" 0 1 first)
    string(TOUPPER "${first}" first)
    string(SUBSTRING "${word}" 1 -1 rest)
    string(APPEND case "${first}${rest}")
  endforeach()
  string(REPLACE "@" "${case}" filter "${filter}")
  add_test(NAME ${test}.${label} WORKING_DIRECTORY "${CAFFE_COPY}" COMMAND layers.testbin "--gtest_filter=${filter}")
  set_tests_properties(${test}.${label} PROPERTIES LABELS ${label} FAIL_REGULAR_EXPRESSION "Running 0 tests")
endfunction()

# Typed tests come as Case/0 and Case/1 for float and double on the CPU and, with CUDA, Case/2 and Case/3 on the GPU.
foreach(test ${layer_tests})
  add_layer_test(${test} cpu "@*-*/2.*:*/3.*")
  if(NOT CPU_ONLY)
    add_layer_test(${test} gpu "@*/2.*:@*/3.*")
  endif()
endforeach()
foreach(test ${device_tests})
  add_layer_test(${test} gpu "@*")
endforeach()
