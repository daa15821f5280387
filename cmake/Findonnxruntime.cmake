# ONNX Runtime's C++ headers and its library, as onnxruntime::onnxruntime. Found are
#
#   Microsoft's archive     by -Donnxruntime_ROOT=<the unpacked archive>
#   Debian's package        libonnxruntime-dev, without any option
#   the library of a wheel  by -Donnxruntime_LIBRARY=<…/onnxruntime/capi/libonnxruntime.so.X.Y.Z>, with headers from
#                           -Donnxruntime_ROOT=<a folder with include/>, of its version or an older one
find_path(onnxruntime_INCLUDE_DIR onnxruntime_cxx_api.h
  PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session onnxruntime)
find_library(onnxruntime_LIBRARY onnxruntime PATH_SUFFIXES lib lib64)
mark_as_advanced(onnxruntime_INCLUDE_DIR onnxruntime_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(onnxruntime REQUIRED_VARS onnxruntime_INCLUDE_DIR onnxruntime_LIBRARY)

if(onnxruntime_FOUND AND NOT TARGET onnxruntime::onnxruntime)
  # Programs look for libonnxruntime.so.1. Wheels have no such name, only the whole version's: it is given one here.
  set(onnxruntime_location "${onnxruntime_LIBRARY}")
  cmake_path(GET onnxruntime_LIBRARY FILENAME onnxruntime_name)
  cmake_path(GET onnxruntime_LIBRARY PARENT_PATH onnxruntime_folder)
  if(onnxruntime_name MATCHES "^(libonnxruntime\\.so\\.[0-9]+)\\.")
    set(onnxruntime_soname "${CMAKE_MATCH_1}")
    if(NOT EXISTS "${onnxruntime_folder}/${onnxruntime_soname}")
      set(onnxruntime_location "${CMAKE_BINARY_DIR}/onnxruntime/${onnxruntime_soname}")
      file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/onnxruntime")
      file(CREATE_LINK "${onnxruntime_LIBRARY}" "${onnxruntime_location}" SYMBOLIC)
    endif()
  endif()
  add_library(onnxruntime::onnxruntime SHARED IMPORTED)
  set_target_properties(onnxruntime::onnxruntime PROPERTIES
    IMPORTED_LOCATION "${onnxruntime_location}"
    INTERFACE_INCLUDE_DIRECTORIES "${onnxruntime_INCLUDE_DIR}")
endif()
