#include "matcher/matcher.hpp"

#include <algorithm>
#include <atomic>
#include <functional>
#include <stdexcept>
#include <utility>

#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/sizes.hpp"
#include "matcher/taps.hpp"

namespace spadeline {
namespace {

// The part of a level's codes that doesn't depend on the query.
std::unique_ptr<LevelEncoder> open_codes(const Model& model, int64_t l, int64_t directions, const float* basis,
                                         const uint8_t* records, CodeTask& task) {
    if (!records) return nullptr;
    const int64_t group = group_size(l + 1 == model.shape.level_count());
    auto encoder = std::make_unique<LevelEncoder>(model.kernels, model.shape.levels()[l].channels, directions, basis);
    task = {encoder->book().dims, ceil_div(model.shape.positions(l), group), encoder->record(group), records, {}};
    return encoder;
}

Model model_of(PyramidShape shape, const Gallery& gallery, const std::string& instruction_set, Upsampling upsampling) {
    const StandardArithmetic arithmetic;
    if (shape.level_count() > kMaxLevels)
        throw std::invalid_argument("levels: expected 1 to " + std::to_string(kMaxLevels) + ", got " +
                                    std::to_string(shape.level_count()));
    Model model(std::move(shape), kernels_named(instruction_set));
    MatchTask& task = model.task;
    task.level_count = static_cast<int>(model.shape.level_count());
    task.storage = gallery.storage;
    task.bilinear = upsampling == Upsampling::bilinear;
    task.cells = model.shape.cells();
    task.cell_columns = model.shape.cell_columns();
    model.pruned = !gallery.codes.empty() && !task.bilinear;
    for (int64_t l = 0; l < task.level_count; ++l) {
        const LevelShape& level_shape = model.shape.levels()[l];
        LevelTask& level = task.level[l];
        level.channels = level_shape.channels;
        level.block = model.shape.block(l);
        level.positions = model.shape.positions(l);
        level.shift = level_shape.shift;
        level.weight = gallery.weights[l];
        level.gallery = gallery.levels[l];
        if (task.bilinear && l > 0) model.taps[l] = taps_of(model.shape, l);
        const GalleryCodes codes = model.pruned ? gallery.codes[l] : GalleryCodes{};
        model.projected.push_back(
            open_codes(model, l, codes.directions, codes.basis, codes.projected, level.projected));
        model.rotated.push_back(open_codes(model, l, 0, codes.basis, codes.rotated, level.rotated));
    }
    return model;
}

std::vector<std::unique_ptr<Search>> open_searches(const Model& model, int threads) {
    std::vector<std::unique_ptr<Search>> searches;
    for (int i = 0; i < threads; ++i) searches.push_back(std::make_unique<Search>(model, i == 0 ? threads : 1));
    return searches;
}

}  // namespace

Matcher::Matcher(PyramidShape shape, Gallery gallery, int threads, const std::string& instruction_set,
                 Upsampling upsampling)
    : images_(gallery.images),
      model_(model_of(std::move(shape), gallery, instruction_set, upsampling)),
      pool_(threads),
      searches_(open_searches(model_, threads)),
      rounds_(*searches_[0]) {}

const char* Matcher::instruction_set() const { return model_.kernels.name; }

Statistics Matcher::match(const Request& request) {
    pool_.check_process();
    const std::lock_guard turn(turn_);
    const StandardArithmetic arithmetic;
    return searches_[0]->run(request, &pool_);
}

Outcome Matcher::inspect(const Request& request, const Goal& goal) {
    pool_.check_process();
    const std::lock_guard turn(turn_);
    const StandardArithmetic arithmetic;
    return rounds_.run(request, goal, &pool_);
}

void Matcher::match_batch(std::span<const Request> requests, std::span<Statistics> statistics) {
    pool_.check_process();
    const std::lock_guard turn(turn_);
    const StandardArithmetic arithmetic;
    const auto run = [&](size_t i, Search& search, ThreadPool* pool) {
        try {
            statistics[i] = search.run(requests[i], pool);
        } catch (NotFinite& bad) {
            bad.query = static_cast<int64_t>(i);
            throw;
        }
    };
    const size_t alone =
        requests.size() - requests.size() % pool_.size();  // the remaining queries use all threads, one after the other
    for (size_t worker = 0; worker < searches_.size() && alone; ++worker)
        for (const Request& request : requests) searches_[worker]->reserve(request);
    std::atomic<size_t> next = 0;
    const auto take = [&](int worker) {
        for (size_t i = next++; i < alone; i = next++) run(i, *searches_[worker], nullptr);
    };
    if (alone) pool_.run(std::ref(take));
    for (size_t i = alone; i < requests.size(); ++i) run(i, *searches_[0], &pool_);
}

}  // namespace spadeline
