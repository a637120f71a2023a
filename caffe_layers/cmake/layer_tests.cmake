# test/layers.testbin: the layers' tests, as they stand in the copy; and a ctest for each layer and device.
file(GLOB test_files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/caffe_layers/test_*_layer.cpp")
set(test_sources "${CAFFE_COPY}/src/caffe/test/test_caffe_main.cpp")
set(tests "")
foreach(file ${test_files})
  get_filename_component(name "${file}" NAME)
  if(EXISTS "${CAFFE_COPY}/src/caffe/test/${name}")  # it is not for a layer that the tree has of its own
    list(APPEND test_sources "${CAFFE_COPY}/src/caffe/test/${name}")
    string(REGEX REPLACE "^test_(.*)\\.cpp$" "\\1" test "${name}")
    list(APPEND tests "${test}")
  endif()
endforeach()

add_executable(layers.testbin ${test_sources})
set_target_properties(layers.testbin PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/test")
target_link_libraries(layers.testbin PRIVATE gtest caffe)
target_compile_options(layers.testbin PRIVATE -O1)  # they are compiled more often than run

# Typed tests come as Case/0 and Case/1 for float and double on the CPU and, with CUDA, Case/2 and Case/3 on the GPU.
foreach(test ${tests})
  string(REPLACE "_" ";" words "${test}")
  set(case "")
  foreach(word ${words})
    string(SUBSTRING "${word}" 0 1 first)
    string(TOUPPER "${first}" first)
    string(SUBSTRING "${word}" 1 -1 rest)
    string(APPEND case "${first}${rest}")
  endforeach()
  add_test(NAME ${test}.cpu WORKING_DIRECTORY "${CAFFE_COPY}"
    COMMAND layers.testbin "--gtest_filter=${case}*-*/2.*:*/3.*")
  set_tests_properties(${test}.cpu PROPERTIES LABELS cpu FAIL_REGULAR_EXPRESSION "Running 0 tests")
  if(NOT CPU_ONLY)
    add_test(NAME ${test}.gpu WORKING_DIRECTORY "${CAFFE_COPY}"
      COMMAND layers.testbin "--gtest_filter=${case}*/2.*:${case}*/3.*")
    set_tests_properties(${test}.gpu PROPERTIES LABELS gpu FAIL_REGULAR_EXPRESSION "Running 0 tests")
  endif()
endforeach()
