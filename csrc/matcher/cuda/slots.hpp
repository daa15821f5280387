// Which image lies in which slot of a device that can't hold all images: the least recently used make room. Decides;
// copies nothing.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace spadeline::cuda {

// A query needs more images at once than there are slots.
struct TooFewSlots : std::runtime_error {
    TooFewSlots(int64_t wanted, int64_t slots)
        : std::runtime_error("gallery: expected at most " + std::to_string(slots) +
                             " images for a query, as many as fit the device, got " + std::to_string(wanted)) {}
};

struct Upload {
    int64_t image;
    int32_t slot;

    bool operator==(const Upload&) const = default;
};

class SlotTable {
 public:
    explicit SlotTable(int64_t slots) : slots_(slots) {}

    int64_t slots() const { return slots_; }
    int64_t resident() const { return static_cast<int64_t>(place_.size()); }

    // Writes each image's slot to `slots`, and appends the images that must be copied there first to `uploads`. Ids are
    // distinct. No image of this call makes room for another one. Throws TooFewSlots, and then has changed nothing.
    void place(std::span<const int64_t> images, std::span<int32_t> slots, std::vector<Upload>& uploads) {
        const auto wanted = static_cast<int64_t>(images.size());
        if (wanted > slots_) throw TooFewSlots(wanted, slots_);
        for (const int64_t image : images)  // before any image makes room
            if (const auto found = place_.find(image); found != place_.end())
                order_.splice(order_.end(), order_, found->second);
        for (int64_t k = 0; k < wanted; ++k) {
            auto found = place_.find(images[k]);
            if (found == place_.end()) {
                uploads.push_back({images[k], free_slot()});
                found = place_.emplace(images[k], order_.insert(order_.end(), uploads.back())).first;
            }
            slots[k] = found->second->slot;
        }
    }

    // Forgets what lies in the slots, after copies that failed.
    void forget() {
        order_.clear();
        place_.clear();
    }

 private:
    int32_t free_slot() {
        if (resident() < slots_) return static_cast<int32_t>(resident());
        const Upload oldest = order_.front();
        order_.pop_front();
        place_.erase(oldest.image);
        return oldest.slot;
    }

    int64_t slots_;
    std::list<Upload> order_;  // least recently used first
    std::unordered_map<int64_t, std::list<Upload>::iterator> place_;
};

}  // namespace spadeline::cuda
