#include "library/recipe/files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "library/errors.hpp"
#include "library/recipe/sha256.hpp"

namespace spadeline {
namespace {

constexpr int64_t kChunk = int64_t{1} << 20;  // bytes that are read and hashed while they are in the cache

std::string reason() { return std::generic_category().message(errno); }

int open_file(const std::string& path) {
    // Without O_NONBLOCK, opening a pipe that nobody writes to would never return.
    const int descriptor = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) throw RecipeError(path + (errno == ENOENT ? ": is missing" : ": can't be read: " + reason()));
    return descriptor;
}

int64_t size_of(int descriptor, const std::string& path) {
    struct stat status{};
    if (fstat(descriptor, &status) != 0) throw RecipeError(path + ": can't be read: " + reason());
    if (!S_ISREG(status.st_mode)) throw RecipeError(path + ": expected an ordinary file, got a folder or a device");
    return status.st_size;
}

}  // namespace

Pages::Pages(int64_t size, const std::string& name) : size_(size) {
    void* data = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        throw RecipeError(name + ": expected memory for " + std::to_string(size) + " bytes: " + reason());
    data_ = static_cast<uint8_t*>(data);
    // A frame reads all over the gallery, and addresses in fewer, larger pages are found faster.
    madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE);
}

Pages::Pages(int descriptor, int64_t size, const std::string& name) : size_(size) {
    void* data = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED) throw RecipeError(name + ": can't be mapped: " + reason());
    data_ = static_cast<uint8_t*>(data);
}

Pages::~Pages() {
    if (data_) munmap(data_, static_cast<size_t>(size_));
}

OpenedFile::OpenedFile(const std::string& path) : path_(path), descriptor_(open_file(path)) {
    try {
        stored_.size = size_of(descriptor_, path_);
    } catch (...) {
        close(descriptor_);
        throw;
    }
}

OpenedFile::OpenedFile(const std::string& folder, const StoredFile& stored) : OpenedFile(folder + "/" + stored.name) {
    const int64_t size = stored_.size;
    stored_ = stored;
    if (size != stored.size)
        throw RecipeError(path_ + ": expected " + std::to_string(stored.size) + " bytes, got " + std::to_string(size));
}

OpenedFile::~OpenedFile() {
    if (descriptor_ >= 0) close(descriptor_);
}

void OpenedFile::fill(void* room, int64_t size, int64_t position) const {
    auto* to = static_cast<uint8_t*>(room);
    while (size > 0) {
        const ssize_t count = pread(descriptor_, to, static_cast<size_t>(size), position);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw RecipeError(path_ + ": can't be read: " + reason());
        if (count == 0)
            throw RecipeError(path_ + ": expected " + std::to_string(stored_.size) + " bytes, got " +
                              std::to_string(position) + ": it was cut off while it was read");
        to += count;
        position += count;
        size -= count;
    }
}

Pages OpenedFile::read() const {
    Pages pages(stored_.size, path_);
    Sha256 hash;
    for (int64_t position = 0; position < stored_.size; position += kChunk) {
        const int64_t size = std::min(kChunk, stored_.size - position);
        fill(pages.data() + position, size, position);
        hash.update(pages.data() + position, static_cast<size_t>(size));
    }
    expect_hash(hash.hex());
    return pages;
}

void OpenedFile::expect_hash(const std::string& came) const {
    if (came != stored_.sha256)
        throw RecipeError(path_ + ": expected SHA-256 " + stored_.sha256 + ", got " + came +
                          ": its content was changed");
}

void OpenedFile::check(const uint8_t* bytes) const {
    Sha256 hash;
    hash.update(bytes, static_cast<size_t>(stored_.size));
    expect_hash(hash.hex());
}

std::string read_text(const std::string& path, int64_t most) {
    const OpenedFile file(path);
    if (file.size() > most)
        throw RecipeError(path + ": expected at most " + std::to_string(most) + " bytes, got " +
                          std::to_string(file.size()));
    std::string text(static_cast<size_t>(file.size()), '\0');
    file.fill(text.data(), file.size(), 0);
    return text;
}

}  // namespace spadeline
