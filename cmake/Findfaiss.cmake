# faiss's C++ headers and its library, as faiss::faiss, with what the library is linked with: OpenMP, BLAS and LAPACK.
# Debian's package is libfaiss-dev; another one is named by -Dfaiss_ROOT=<its prefix>.
find_path(faiss_INCLUDE_DIR faiss/IVFlib.h)
find_library(faiss_LIBRARY faiss)
mark_as_advanced(faiss_INCLUDE_DIR faiss_LIBRARY)
if(faiss_LIBRARY)
  find_package(OpenMP QUIET COMPONENTS CXX)
  find_package(BLAS QUIET)
  find_package(LAPACK QUIET)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(faiss
  REQUIRED_VARS faiss_INCLUDE_DIR faiss_LIBRARY OpenMP_CXX_FOUND BLAS_FOUND LAPACK_FOUND)

if(faiss_FOUND AND NOT TARGET faiss::faiss)
  add_library(faiss::faiss UNKNOWN IMPORTED)
  set_target_properties(faiss::faiss PROPERTIES
    IMPORTED_LOCATION "${faiss_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${faiss_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "OpenMP::OpenMP_CXX;LAPACK::LAPACK;BLAS::BLAS")
endif()
