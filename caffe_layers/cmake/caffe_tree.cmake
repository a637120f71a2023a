# The targets of a Caffe tree, from ${CAFFE_COPY}: caffeproto, caffe (the library), caffe_tool, pycaffe and gtest.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")

# ---[ The messages
set(proto "${CAFFE_COPY}/src/caffe/proto/caffe.proto")
set(proto_made "${CMAKE_BINARY_DIR}/include/caffe/proto")
file(MAKE_DIRECTORY "${proto_made}" "${CAFFE_COPY}/python/caffe/proto")
add_custom_command(
  OUTPUT "${proto_made}/caffe.pb.cc" "${proto_made}/caffe.pb.h" "${CAFFE_COPY}/python/caffe/proto/caffe_pb2.py"
  COMMAND protobuf::protoc "--proto_path=${CAFFE_COPY}/src/caffe/proto" "--cpp_out=${proto_made}"
    "--python_out=${CAFFE_COPY}/python/caffe/proto" "${proto}"
  COMMAND "${CMAKE_COMMAND}" -E touch "${CAFFE_COPY}/python/caffe/proto/__init__.py"
  DEPENDS "${proto}" VERBATIM)
add_library(caffeproto STATIC "${proto_made}/caffe.pb.cc" "${proto_made}/caffe.pb.h")
target_include_directories(caffeproto PUBLIC "${CMAKE_BINARY_DIR}/include")
target_link_libraries(caffeproto PUBLIC protobuf::libprotobuf)

# ---[ The library
file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CAFFE_COPY}/src/caffe/*.cpp")
list(FILTER sources EXCLUDE REGEX "/src/caffe/test/")
if(NOT CPU_ONLY)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS "${CAFFE_COPY}/src/caffe/*.cu")
  list(FILTER cuda_sources EXCLUDE REGEX "/src/caffe/test/")
  list(APPEND sources ${cuda_sources})
endif()
# Where CMAKE_UNITY_BUILD is asked for, it is for the many small files; others may have macros of their own.
foreach(source ${sources})
  if(NOT source MATCHES "/src/caffe/(layers|solvers|util)/")
    set_source_files_properties("${source}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
endforeach()
if(NOT CAFFE_VERSION)
  set(CAFFE_VERSION 1.0.0)
endif()
add_library(caffe SHARED ${sources})
target_include_directories(caffe PUBLIC "${CAFFE_COPY}/include" PRIVATE "${CAFFE_COPY}/src")
target_compile_definitions(caffe PUBLIC ${caffe_definitions} PRIVATE CAFFE_VERSION=${CAFFE_VERSION})
target_compile_options(caffe PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-w>)  # the tree's warnings are its own
target_link_libraries(caffe PUBLIC caffeproto caffe_dependencies)
if(NOT CPU_ONLY)
  set_property(SOURCE "${CAFFE_COPY}/src/caffe/common.cpp" APPEND PROPERTY
    COMPILE_OPTIONS -include "${CMAKE_SOURCE_DIR}/caffe_layers/cmake/cuda13_device_properties.hpp")
endif()

# ---[ tools/caffe
add_executable(caffe_tool "${CAFFE_COPY}/tools/caffe.cpp")
set_target_properties(caffe_tool PROPERTIES OUTPUT_NAME caffe RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tools")
target_link_libraries(caffe_tool PRIVATE caffe)
target_compile_definitions(caffe_tool PRIVATE CAFFE_VERSION=${CAFFE_VERSION})
target_compile_options(caffe_tool PRIVATE -w)

# ---[ pycaffe, beside the tree's Python files; without layers in Python, which would tie libcaffe to one libpython
if(BUILD_python)
  file(GLOB python_sources "${CAFFE_COPY}/python/caffe/*.cpp")
  add_library(pycaffe MODULE ${python_sources})
  set_target_properties(pycaffe PROPERTIES PREFIX "" OUTPUT_NAME _caffe
    LIBRARY_OUTPUT_DIRECTORY "${CAFFE_COPY}/python/caffe")
  target_link_libraries(pycaffe PRIVATE caffe Boost::${boost_python} Python3::Module Python3::NumPy)
  target_compile_definitions(pycaffe PRIVATE CAFFE_VERSION=${CAFFE_VERSION})
  target_compile_options(pycaffe PRIVATE -w)
endif()

# ---[ gtest, the tree's own
add_library(gtest STATIC "${CAFFE_COPY}/src/gtest/gtest-all.cpp")
target_include_directories(gtest PUBLIC "${CAFFE_COPY}/src")
target_compile_definitions(gtest PUBLIC GTEST_USE_OWN_TR1_TUPLE)
target_compile_options(gtest PRIVATE -w)
target_link_libraries(gtest PUBLIC Threads::Threads)
