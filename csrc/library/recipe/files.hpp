// A recipe's files: opened with checks of their sizes, read with checks of their hashes, or mapped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "library/recipe/manifest.hpp"

namespace spadeline {

// Pages that belong to this object: memory of its own, or a file's, which then must not be written into.
class Pages {
 public:
    Pages() = default;
    // Memory of so many bytes, all 0; throws RecipeError with `name` if there is none.
    Pages(int64_t size, const std::string& name);
    // The file, read-only.
    Pages(int descriptor, int64_t size, const std::string& name);
    ~Pages();
    Pages(Pages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Pages& operator=(Pages&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    uint8_t* data() const { return data_; }
    int64_t size() const { return size_; }

 private:
    uint8_t* data_ = nullptr;
    int64_t size_ = 0;
};

// An ordinary file, held open. Its name may since be gone, or belong to another file.
class OpenedFile {
 public:
    // Throws RecipeError: no file, no ordinary one, or one that can't be read.
    explicit OpenedFile(const std::string& path);
    // Also if it has another size than the one that was stored.
    OpenedFile(const std::string& folder, const StoredFile& stored);
    ~OpenedFile();
    OpenedFile(OpenedFile&& other) noexcept
        : path_(std::move(other.path_)),
          stored_(std::move(other.stored_)),
          descriptor_(std::exchange(other.descriptor_, -1)) {}
    OpenedFile& operator=(OpenedFile&&) = delete;

    const std::string& path() const { return path_; }
    int64_t size() const { return stored_.size; }

    // Fills `room` with the file's bytes from `position` on. Throws RecipeError.
    void fill(void* room, int64_t size, int64_t position) const;
    // The whole file in memory, its SHA-256 compared.
    Pages read() const;
    Pages mapped() const { return Pages(descriptor_, stored_.size, path_); }
    // Compares the SHA-256 of bytes that are the file's.
    void check(const uint8_t* bytes) const;

 private:
    void expect_hash(const std::string& came) const;

    std::string path_;
    StoredFile stored_;
    int descriptor_;
};

// The content of a small text file. Throws RecipeError, also if it is longer than `most` bytes.
std::string read_text(const std::string& path, int64_t most);

}  // namespace spadeline
