# libspadeline.so, the C and C++ interface: what it needs, how it is built, and what is installed for other programs.
list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
find_package(onnxruntime QUIET)
if(NOT onnxruntime_FOUND)
  message(FATAL_ERROR "SPADELINE_LIBRARY=ON: expected ONNX Runtime's C++ headers and library, got headers ${onnxruntime_INCLUDE_DIR} and library ${onnxruntime_LIBRARY}: install libonnxruntime-dev, or name them with -Donnxruntime_ROOT=<folder> and -Donnxruntime_LIBRARY=<file> (docs/how-to/c-and-cpp.md)")
endif()
find_path(nlohmann_json_INCLUDE_DIR nlohmann/json.hpp)
if(NOT nlohmann_json_INCLUDE_DIR)
  message(FATAL_ERROR "SPADELINE_LIBRARY=ON: expected the header nlohmann/json.hpp, found none: install nlohmann-json3-dev, or name its folder with -Dnlohmann_json_INCLUDE_DIR=<folder>")
endif()
find_package(OpenSSL QUIET COMPONENTS Crypto)
if(NOT OPENSSL_FOUND)
  message(FATAL_ERROR "SPADELINE_LIBRARY=ON: expected OpenSSL's libcrypto, found none: install libssl-dev, or name its folder with -DOPENSSL_ROOT_DIR=<folder>")
endif()

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(spadeline SHARED
  csrc/library/c_api.cpp
  csrc/library/describe.cpp
  csrc/library/extractor.cpp
  csrc/library/index.cpp
  csrc/library/inspector.cpp
  csrc/library/loaded_recipe.cpp
  csrc/library/recipe/arrays.cpp
  csrc/library/recipe/files.cpp
  csrc/library/recipe/geometry.cpp
  csrc/library/recipe/held_gallery.cpp
  csrc/library/recipe/json.cpp
  csrc/library/recipe/manifest.cpp
  csrc/library/recipe/recipe.cpp
  csrc/library/recipe/records.cpp
  csrc/library/recipe/settings.cpp
  csrc/library/recipe/sha256.cpp
  csrc/library/recipe/text.cpp
  csrc/library/recipe/thresholds.cpp
  csrc/library/resources.cpp
  csrc/library/session.cpp)
add_library(spadeline::spadeline ALIAS spadeline)
target_include_directories(spadeline PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/csrc/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_include_directories(spadeline SYSTEM PRIVATE "${nlohmann_json_INCLUDE_DIR}")
target_compile_definitions(spadeline PRIVATE SPADELINE_VERSION_TEXT="${PROJECT_VERSION}")
target_compile_options(spadeline PRIVATE -ffp-contract=off ${warnings})
target_link_libraries(spadeline PRIVATE $<BUILD_LOCAL_INTERFACE:spadeline_core> onnxruntime::onnxruntime OpenSSL::Crypto)
# Without faiss, recipes with another index than Flat are refused. -DCMAKE_DISABLE_FIND_PACKAGE_faiss=ON leaves it out.
find_package(faiss QUIET)
if(faiss_FOUND)
  target_compile_definitions(spadeline PRIVATE SPADELINE_FAISS)
  target_link_libraries(spadeline PRIVATE faiss::faiss)
  message(STATUS "libspadeline.so searches faiss's indexes, by ${faiss_LIBRARY}")
endif()
# Only the C interface is visible, so that two versions, or other libraries of the same parts, can live in one process.
target_link_options(spadeline PRIVATE
  "-Wl,--version-script=${PROJECT_SOURCE_DIR}/csrc/library/symbols.map" -Wl,--exclude-libs,ALL -Wl,--no-undefined)
# A graph whose loading can't be stopped keeps a thread in the library, so dlclose() leaves the library where it is.
target_link_options(spadeline PRIVATE -Wl,-z,nodelete)
# SOVERSION is SPADELINE_ABI of spadeline.h. Beside the installed library, ONNX Runtime's is found.
set_target_properties(spadeline PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION 1
  LINK_DEPENDS "${PROJECT_SOURCE_DIR}/csrc/library/symbols.map"
  INSTALL_RPATH "$ORIGIN")

install(TARGETS spadeline EXPORT spadeline COMPONENT library
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT library)
install(DIRECTORY csrc/include/spadeline DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/spadeline)
install(EXPORT spadeline NAMESPACE spadeline:: FILE spadelineConfig.cmake DESTINATION ${package} COMPONENT library)
write_basic_package_version_file(spadelineConfigVersion.cmake COMPATIBILITY SameMinorVersion)
# The whole tree may be moved, so the file names folders relative to itself.
file(RELATIVE_PATH includedir_from_pkgconfig
  "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file(cmake/spadeline.pc.in spadeline.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/spadelineConfigVersion.cmake" DESTINATION ${package} COMPONENT library)
install(FILES "${PROJECT_BINARY_DIR}/spadeline.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)
