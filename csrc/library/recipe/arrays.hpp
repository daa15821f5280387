// The .npy file of an array: format 1.0, C order, data from a multiple of 64 bytes on. The header is compared, not
// evaluated, before any memory is allocated.
#pragma once

#include "library/recipe/files.hpp"
#include "library/recipe/geometry.hpp"

namespace spadeline {

class StoredArray {
 public:
    // Throws RecipeError if the file isn't the array that the layout describes.
    StoredArray(const std::string& folder, const StoredFile& stored, ArrayLayout layout);

    const OpenedFile& file() const { return file_; }
    const ArrayLayout& layout() const { return layout_; }
    int64_t offset() const { return offset_; }  // of the data in the file

    // Throws RecipeError if a number isn't finite; `data` is the array's.
    void check_finite(const void* data) const;

 private:
    int64_t check_header() const;

    OpenedFile file_;
    ArrayLayout layout_;
    int64_t offset_;
};

}  // namespace spadeline
