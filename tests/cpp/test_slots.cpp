// The cache of gallery images: every image of a call has a slot of its own, and the least recently used make room.
#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "expect.hpp"
#include "features.hpp"
#include "matcher/cuda/slots.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

std::vector<int32_t> place(SlotTable& table, const std::vector<int64_t>& images, std::vector<Upload>& uploads) {
    std::vector<int32_t> slots(images.size());
    uploads.clear();
    table.place(images, slots, uploads);
    return slots;
}

void check_order() {
    SlotTable table(3);
    std::vector<Upload> uploads;
    expect(place(table, {7, 8, 9}, uploads) == std::vector<int32_t>{0, 1, 2} && uploads.size() == 3, "an empty table");
    expect(place(table, {9, 7}, uploads) == std::vector<int32_t>{2, 0} && uploads.empty(), "what is there");
    expect(place(table, {5}, uploads) == std::vector<int32_t>{1} && uploads == std::vector<Upload>{{5, 1}},
           "the oldest, 8, makes room");
    expect(place(table, {8, 9}, uploads) == std::vector<int32_t>{0, 2} && uploads == std::vector<Upload>{{8, 0}},
           "7 makes room, not 9, which is asked for");
    expect(place(table, {}, uploads).empty() && uploads.empty(), "nothing asked for");
}

void check_too_few() {
    SlotTable table(2);
    std::vector<Upload> uploads;
    place(table, {1, 2}, uploads);
    try {
        place(table, {1, 2, 3}, uploads);
        expect(false, "three images in two slots");
    } catch (const TooFewSlots& error) {
        expect(error.what() == std::string("gallery: expected at most 2 images for a query, as many as fit the "
                                           "device, got 3"),
               error.what());
    }
    expect(place(table, {1, 2}, uploads) == std::vector<int32_t>{0, 1} && uploads.empty(), "a refusal changes nothing");
    table.forget();
    expect(table.resident() == 0 && place(table, {2}, uploads) == std::vector<int32_t>{0} && uploads.size() == 1,
           "what was forgotten is copied again");
}

// Compares with where the uploads put each image and when it was last asked for.
void check_random() {
    Random random(1);
    for (int round = 0; round < 50; ++round) {
        const int64_t slots = random.upto(12), images = random.upto(30);
        SlotTable table(slots);
        std::map<int32_t, int64_t> held;  // slot to image
        std::map<int64_t, int64_t> last;  // image to the call that asked for it
        std::vector<Upload> uploads;
        for (int64_t call = 1; call <= 60; ++call) {
            std::vector<int64_t> wanted(images);
            for (int64_t i = 0; i < images; ++i) wanted[i] = i;
            for (int64_t i = images - 1; i > 0; --i) std::swap(wanted[i], wanted[random.below(i + 1)]);
            wanted.resize(random.upto(std::min(slots, images)));
            const auto found = place(table, wanted, uploads);
            const std::set<int64_t> asked(wanted.begin(), wanted.end());
            for (const auto& [image, slot] : uploads) {
                expect(slot >= 0 && slot < slots && asked.contains(image), "an upload that nobody asked for");
                if (const auto old = held.find(slot); old != held.end()) {
                    expect(!asked.contains(old->second), "threw out what was asked for");
                    for (const auto& [other, kept] : held)
                        expect(asked.contains(kept) || last[old->second] <= last[kept], "threw out a younger one");
                }
                held[slot] = image;
            }
            for (size_t k = 0; k < wanted.size(); ++k) {
                expect(held.contains(found[k]) && held[found[k]] == wanted[k], "an image that isn't in its slot");
                last[wanted[k]] = call;
            }
        }
    }
}

}  // namespace

int main() {
    check_order();
    check_too_few();
    check_random();
    return report();
}
