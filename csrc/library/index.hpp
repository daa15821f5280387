// Indexes of faiss, where this library was built with it: faster than comparing a frame with all images, if there are
// very many, but approximate. The same index is made as engine/inspect/retrieval.py makes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/retrieval.hpp"

namespace spadeline {

// The index that a recipe's `index_factory` names, over the (count, size) embeddings; null for "Flat", which needs
// none. It is trained on the embeddings, and keeps a copy of them in its own form. It is made in the caller's thread
// alone, so that it is always the same. Throws InputError if it can't be made, or for all but "Flat" without faiss.
std::unique_ptr<const Index> make_index(const std::string& factory, const float* embeddings, int64_t count,
                                        int64_t size);

}  // namespace spadeline
