# Makes and refreshes the transplanted copy, ${CAFFE_COPY}, whenever CMake runs; a change of the layers or of the
# user's sources makes CMake run.
get_filename_component(CAFFE_ROOT "${CAFFE_ROOT}" ABSOLUTE BASE_DIR "${CMAKE_BINARY_DIR}")
set(CAFFE_COPY "${CMAKE_BINARY_DIR}/caffe")

set(WITHOUT "" CACHE STRING "Types of layers to leave out, as by transplant.py --without")
set(REPLACE "" CACHE STRING "Types of the tree's own layers to replace by ours, or all, as by transplant.py --replace")
set(choices "")
foreach(type ${WITHOUT})
  list(APPEND choices --without "${type}")
endforeach()
foreach(type ${REPLACE})
  list(APPEND choices --replace "${type}")
endforeach()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python3_EXECUTABLE}" "${CMAKE_SOURCE_DIR}/caffe_layers/stage.py" "${CAFFE_ROOT}" "${CAFFE_COPY}"
    ${choices}
  RESULT_VARIABLE staged OUTPUT_VARIABLE report ERROR_VARIABLE problem)
if(staged)
  string(STRIP "${problem}" problem)
  message(FATAL_ERROR "The layers can't be put into a copy of ${CAFFE_ROOT}:\n${problem}")
endif()
message(STATUS "${report}")

file(GLOB_RECURSE staged_from CONFIGURE_DEPENDS
  "${CMAKE_SOURCE_DIR}/caffe_layers/*.?pp" "${CMAKE_SOURCE_DIR}/caffe_layers/*.cu*"
  "${CMAKE_SOURCE_DIR}/caffe_layers/*.inc" "${CMAKE_SOURCE_DIR}/caffe_layers/*.proto"
  "${CMAKE_SOURCE_DIR}/caffe_layers/*.json" "${CMAKE_SOURCE_DIR}/caffe_layers/*.py"
  "${CMAKE_SOURCE_DIR}/tests/caffe_layers/*.?pp"
  "${CAFFE_ROOT}/include/caffe/*" "${CAFFE_ROOT}/src/*" "${CAFFE_ROOT}/python/caffe/*.py" "${CAFFE_ROOT}/python/*.cpp")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${staged_from})
