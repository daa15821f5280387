#include "library/index.hpp"

#include "library/errors.hpp"
#include "library/recipe/text.hpp"

#ifdef SPADELINE_FAISS
#include <faiss/IVFlib.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_factory.h>
#include <omp.h>

#include <charconv>
#include <string_view>
#endif

namespace spadeline {

#ifdef SPADELINE_FAISS
namespace {

// While it lives, OpenMP's loops in this thread run in this thread alone: faiss would wake threads for each frame that
// have nothing to do, and a fork, which has none of them, would wait for them forever.
class OneThread {
 public:
    OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;
    ~OneThread() { omp_set_num_threads(before_); }

 private:
    const int before_;
};

class FaissIndex : public Index {
 public:
    FaissIndex(const std::string& factory, const float* embeddings, int64_t count, int64_t size)
        : index_(faiss::index_factory(static_cast<int>(size), factory.c_str(), faiss::METRIC_L2)),
          inverted_(faiss::ivflib::try_extract_index_ivf(index_.get())) {
        if (inverted_) inverted_->cp.min_points_per_centroid = 1;  // with fewer, faiss would print a warning
        index_->train(count, embeddings);
        index_->add(count, embeddings);
    }

    // As many lists are probed as are needed to find enough.
    void find(const float* embedding, int64_t reach, std::vector<NearImage>& candidates) const override {
        const OneThread one_thread;
        std::vector<float> distances(static_cast<size_t>(reach));
        std::vector<int64_t> images(distances.size());
        faiss::SearchParametersIVF probing;
        faiss::SearchParametersPreTransform transformed;
        transformed.index_params = &probing;
        const bool transforms = dynamic_cast<const faiss::IndexPreTransform*>(index_.get());
        faiss::SearchParameters* const asked =
            transforms ? static_cast<faiss::SearchParameters*>(&transformed) : &probing;
        for (probing.nprobe = 1;; probing.nprobe *= 2) {
            index_->search(1, embedding, reach, distances.data(), images.data(), inverted_ ? asked : nullptr);
            candidates.clear();
            for (const int64_t image : images)
                if (image >= 0) candidates.push_back({0, image});  // -1 stands where it didn't find an image
            if (!inverted_ || static_cast<int64_t>(candidates.size()) >= reach || probing.nprobe >= inverted_->nlist)
                return;
        }
    }

 private:
    const std::unique_ptr<faiss::Index> index_;
    faiss::IndexIVF* const inverted_;  // null: an index without lists to probe
};

// The number behind "IVF"; 0: there is none.
int64_t lists_of(const std::string& factory) {
    int64_t lists = 0;
    if (const size_t at = factory.find("IVF"); at != std::string::npos)
        std::from_chars(factory.data() + at + 3, factory.data() + factory.size(), lists);
    return lists;
}

// The part of faiss's message that gives the reason, without places in faiss's source.
std::string reason_of(const std::string& message) {
    static constexpr std::string_view kBefore = "' failed: ";
    const size_t at = message.find(kBefore);
    const size_t first = at == std::string::npos ? 0 : at + kBefore.size();
    return message.substr(first, message.find_last_not_of(' ') + 1 - first);
}

}  // namespace

std::unique_ptr<const Index> make_index(const std::string& factory, const float* embeddings, int64_t count,
                                        int64_t size) {
    if (factory == "Flat") return nullptr;
    if (lists_of(factory) > count)  // faiss would first allocate all the lists
        throw InputError("factory: expected at most " + std::to_string(count) + " lists for as many embeddings, got " +
                         shown(factory));
    const auto failed = [&](const std::string& reason) {
        return InputError("factory: expected a faiss index for " + std::to_string(count) + " embeddings of " +
                          std::to_string(size) + " numbers, got " + shown(factory) + ": " + reason);
    };
    const OneThread one_thread;
    try {
        return std::make_unique<const FaissIndex>(factory, embeddings, count, size);
    } catch (const faiss::FaissException& error) {
        throw failed(reason_of(error.msg));
    } catch (const std::bad_alloc& error) {
        throw failed(error.what());
    }
}
#else
std::unique_ptr<const Index> make_index(const std::string& factory, const float*, int64_t, int64_t) {
    if (factory == "Flat") return nullptr;
    throw InputError("index_factory: expected 'Flat', the index that this library searches, got " + shown(factory) +
                     "; change it with: spadeline calibrate; or build the library with libfaiss "
                     "(docs/how-to/c-and-cpp.md)");
}
#endif

}  // namespace spadeline
