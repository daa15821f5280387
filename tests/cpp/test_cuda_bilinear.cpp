// Bilinear upsampling on an emulated device: against the naive matcher, over random pyramids; the filter's bound and
// the one in float32, also where interpolation cancels nearly everything; frames captured once and launched again.
//
//     test_cuda_bilinear [CASES [SEED]]      test_cuda_bilinear 1 SEED: a case that failed
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "expect.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/bilinear.cuh"
#include "matcher/cuda/dense.hpp"
#include "matcher/cuda/matcher.hpp"
#include "matcher/taps.hpp"
#include "naive.hpp"
#include "on_device.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

constexpr char kPurpose[] = "a test";

int64_t bounded = 0, ruled_out = 0;  // pairs whose bound was checked; pairs with a bound above zero

std::string name_of(const Case& c, const Question& q) {
    return "test_cuda_bilinear 1 " + std::to_string(c.seed) + ": " + text_of(c, q) + ": ";
}

struct Pairs {
    DeviceTask task;
    FilterTerms terms;
    const uint32_t *query, *place;
    int64_t count;
    float* least;
};

__global__ void measure_pairs(const __grid_constant__ Pairs pairs) {
    for (int64_t i = 0; i < pairs.count; ++i) {
        float magnitude;
        const float distance = upsampled_distance(pairs.task, pairs.query[i], pairs.place[i], &magnitude);
        if (lane_index() == 0) pairs.least[i] = least_distance(distance, magnitude, pairs.terms);
    }
}

// Rows and norms as the device makes them, and the same features upsampled exactly.
class Bounds {
 public:
    Bounds(const Case& c, const Question& q)
        : case_(c),
          gallery_(c.shape, gallery_of(c, nullptr), {}, Upsampling::bilinear),
          task_(gallery_.task()),
          positions_(c.shape.positions(0)),
          wide_(task_.level[0].filter_channels) {
        const OnDevice<__half> rows(positions_ * wide_);
        const OnDevice<float> norms(positions_);
        for (int64_t l = 0; l < c.shape.level_count(); ++l) {
            host_.push_back(to_cells(c.shape, l, q.query[l], 1));
            device_.emplace_back(host_[l].values);
            task_.level[l].query = device_[l].data();
            taps_.push_back(l > 0 ? taps_of(c.shape, l) : std::vector<Taps>());
        }
        DeviceLevel& finest = task_.level[0];
        finest.query_filter = rows.data();
        finest.query_filter_norms = norms.data();
        const Stream stream;
        check(filter_query(task_, gallery_.plan(), stream), "filter_query", kPurpose);
        check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose);
        query_ = {rows.values(), norms.values()};
        const int64_t places = c.images * positions_;
        images_ = {copied_from_device(finest.gallery_filter, places * wide_),
                   copied_from_device(finest.gallery_filter_norms, places)};
    }

    // Checks `count` random pairs of pixels. Names one whose bound is above its distance; empty if there is none.
    std::string above(Random& random, int64_t count) const {
        std::vector<uint32_t> queries, places;
        while (std::ssize(queries) < count) {
            const int64_t p = random.below(positions_), r = random.below(positions_);
            if (case_.shape.raster(0)[p] < 0 || case_.shape.raster(0)[r] < 0) continue;
            queries.push_back(static_cast<uint32_t>(p));
            places.push_back(static_cast<uint32_t>(random.below(case_.images) * positions_ + r));
        }
        const std::vector<float> least = by_float32(queries, places);
        for (int64_t i = 0; i < count; ++i) {
            const long double exact = distance(queries[i], places[i]), filter = by_filter(queries[i], places[i]);
            ++bounded, ruled_out += least[i] > 0;
            // float64's roundings are smaller than the bounds' slack.
            if (filter > exact || least[i] > exact)
                return "positions " + std::to_string(queries[i]) + " and " + std::to_string(places[i]) + ": distance " +
                       std::to_string(static_cast<double>(exact)) + ", got bounds " +
                       std::to_string(static_cast<double>(filter)) + " and " + std::to_string(least[i]);
        }
        return "";
    }

 private:
    std::vector<float> by_float32(const std::vector<uint32_t>& queries, const std::vector<uint32_t>& places) const {
        const OnDevice<uint32_t> query(queries), place(places);
        const OnDevice<float> least(queries.size());
        const Stream stream;
        check(launch(measure_pairs, dim3(1), kWarp, 0, stream,
                     Pairs{task_, filter_terms(task_, gallery_.plan()), query.data(), place.data(), std::ssize(queries),
                           least.data()}),
              "measure_pairs", kPurpose);
        check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose);
        return least.values();
    }

    struct Filter {
        std::vector<__half> rows;
        std::vector<float> norms;
    };

    long double by_filter(uint32_t query, uint32_t place) const {
        const long double scale = gallery_.plan().scale[0];
        const __half *a = query_.rows.data() + query * wide_, *b = images_.rows.data() + place * wide_;
        long double product = 0;
        for (int64_t c = 0; c < wide_; ++c) product += double{__half2float(a[c])} * __half2float(b[c]);
        const long double norms = static_cast<long double>(query_.norms[query]) + images_.norms[place];
        return std::isnan(norms - product) ? -HUGE_VALL : norms - 2 * product / (scale * scale);
    }

    long double upsampled(size_t l, const float* rows, int64_t position, int64_t channel) const {
        const int64_t channels = case_.shape.levels()[l].channels;
        if (l == 0) return rows[position * channels + channel];
        const Taps& taps = taps_[l][position];
        long double value = 0;
        for (int t = 0; t < 4; ++t)
            value += static_cast<long double>(taps.weight[t]) * rows[taps.position[t] * channels + channel];
        return value;
    }

    long double distance(uint32_t query, uint32_t place) const {
        long double sum = 0;
        for (size_t l = 0; l < host_.size(); ++l) {
            const int64_t channels = case_.shape.levels()[l].channels, positions = task_.level[l].positions;
            const float* image = case_.cells[l].values.data() + place / positions_ * positions * channels;
            for (int64_t c = 0; c < channels; ++c) {
                const long double difference =
                    upsampled(l, host_[l].values.data(), query, c) - upsampled(l, image, place % positions_, c);
                sum += case_.weights[l] * difference * difference;
            }
        }
        return sum;
    }

    const Case& case_;
    DeviceGallery gallery_;
    DeviceTask task_;
    const int64_t positions_, wide_;
    Filter query_, images_;
    std::vector<Map> host_;
    std::vector<OnDevice<float>> device_;
    std::vector<std::vector<Taps>> taps_;
};

void expect_right(const Case& c, const Question& q, const Answer& answer) {
    const std::string mistake = Naive(c, q).mistake(answer);
    expect(mistake.empty(), name_of(c, q) + mistake);
    const std::string miscount = Naive(c, q).miscount(answer.statistics, false, kGuardShare);
    expect(miscount.empty(), name_of(c, q) + miscount);
}

// Queries one by one and as a batch, with room for all images or only for one query's. Codes must make no difference.
void check_case(const Case& c, Random& random) {
    constexpr int64_t sizes[] = {64 << 10, 99 << 10, 163 << 10, 227 << 10};
    emulated::device().shared_memory_per_block = static_cast<int>(sizes[random.below(4)]);
    emulated::device().multiprocessors = static_cast<int>(random.upto(5));
    emulated::device().seed = c.seed;
    try {
        const Codes codes = encode(c, kernels_named("scalar"));
        const Gallery gallery = gallery_of(c, random.one_in(2) ? &codes : nullptr);
        size_t most = 0;
        for (const Question& q : c.questions) most = std::max(most, q.ids.size());
        const int64_t image_bytes = DeviceGallery(c.shape, gallery, {}, Upsampling::bilinear).image_bytes();
        std::optional<int64_t> limit;
        if (!random.one_in(2)) limit = static_cast<int64_t>(most) * image_bytes;
        CudaMatcher matcher(c.shape, gallery, limit, Upsampling::bilinear);
        std::vector<Answer> answers(c.questions.size());
        std::vector<Request> requests;
        for (size_t i = 0; i < answers.size(); ++i)
            requests.push_back(request_for(c, c.questions[i], kGuardShare, answers[i]));
        std::vector<Statistics> statistics(answers.size());
        matcher.match_batch(requests, statistics);
        for (size_t i = 0; i < answers.size(); ++i) {
            answers[i].statistics = statistics[i];
            expect_right(c, c.questions[i], answers[i]);
        }
        const std::string above = Bounds(c, c.questions[0]).above(random, 200);
        expect(above.empty(), name_of(c, c.questions[0]) + above);
    } catch (const std::exception& error) {
        expect(false, name_of(c, c.questions[0]) + error.what());
    }
}

// Few pixels are scored, so that this takes seconds even if nothing can be ruled out.
void check_random(uint64_t seed) {
    Random random(seed);
    Case c = random_case(seed, 2);
    c.upsampling = Upsampling::bilinear;
    for (Question& q : c.questions) {
        q.kappa = std::min<int64_t>(q.kappa, kMostKappa);
        const int64_t pixels = c.shape.levels()[0].height * c.shape.levels()[0].width;
        const int64_t scored = (1 << 15) / (pixels * std::ssize(q.ids));
        if (scored >= pixels) continue;
        q.ignore.resize(pixels, 0);
        for (uint8_t& ignored : q.ignore) ignored |= random.below(pixels) >= std::max<int64_t>(scored, 1);
    }
    check_case(c, random);
}

// A coarse level's upsampled features are tiny beside those that they are made of: one rounding of the taps is larger
// than the distances.
void check_cancelling() {
    for (const Storage storage : {Storage::float32, Storage::float16}) {
        Random random(1);
        Case c{0,
               PyramidShape(8, 10, {{6, 0}, {19, 1}, {33, 2}}),
               3,
               storage,
               Upsampling::bilinear,
               1,
               false,
               {1, 2, 0.3},
               {},
               {},
               {},
               {}};
        const auto cancelling = [&](const LevelShape& level, int64_t images) {
            Map map;
            for (int64_t i = 0; i < images * level.channels; ++i)
                for (int64_t p = 0; p < level.height * level.width; ++p) {
                    const int64_t y = p / level.width, x = p % level.width;
                    const double taps = (y + x) % 2 ? 1000 : -1000;
                    map.values.push_back(static_cast<float>((level.shift ? taps : 0) + 1e-3 * random.normal()));
                }
            store(map, storage);
            return map;
        };
        Question q{{}, storage, {2, 0, 1}, 4, {}, {}, {}};
        for (int64_t l = 0; l < 3; ++l) {
            const LevelShape& level = c.shape.levels()[l];
            c.gallery.push_back(cancelling(level, c.images));
            c.cells.push_back(to_cells(c.shape, l, c.gallery[l], c.images));
            c.bases.push_back(random_basis(random, c.cells[l].values, level.channels, 16 * (l > 0)));
            q.query.push_back(cancelling(level, 1));
        }
        for (const Map& map : q.query) q.views.push_back({map.data(), storage});
        c.questions.push_back(std::move(q));
        check_case(c, random);
    }
}

// A graph reads the query's features each time it is launched.
void check_graph() {
    Case c = random_case(3, 2);
    c.upsampling = Upsampling::bilinear;
    Question &first = c.questions[0], &second = c.questions[1];
    for (Question* q : {&first, &second}) {
        q->ids = {0}, q->kappa = 1, q->window = 1, q->storage = Storage::float32;
        q->ignore.clear();
    }
    DeviceGallery gallery(c.shape, gallery_of(c, nullptr), {}, Upsampling::bilinear);
    CudaSearch search(gallery, {1, 1});
    const LevelShape& finest = c.shape.levels()[0];
    const OnDevice<double> distances(finest.height * finest.width);
    const OnDevice<int32_t> neighbours(finest.height * finest.width * 3);
    std::vector<OnDevice<float>> levels;
    for (const Map& map : first.query) levels.emplace_back(map.values);
    std::vector<const void*> sources;
    for (const OnDevice<float>& level : levels) sources.push_back(level.data());
    const Stream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture", kPurpose);
    check(search.enqueue({sources, Storage::float32, first.ids, 1, 1, nullptr, distances.data(), neighbours.data()},
                         stream),
          "enqueue", kPurpose);
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture", kPurpose);
    check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate", kPurpose);
    cudaGraphDestroy(graph);
    for (const Question* q : {&second, &first}) {
        for (size_t l = 0; l < levels.size(); ++l) levels[l].set(q->query[l].values.data());
        check(cudaGraphLaunch(exec, stream), "cudaGraphLaunch", kPurpose);
        check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose);
        expect_right(c, *q, {distances.values(), neighbours.values(), search.statistics()});
    }
    cudaGraphExecDestroy(exec);
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 14);
    if (!random_alone) {
        check_cancelling();
        check_graph();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_random(i);
    std::printf("float32 bounded %" PRId64 " of %" PRId64 " pairs from zero\n", ruled_out, bounded);
    expect(random_alone || ruled_out > bounded / 4, "float32 rules hardly anything out");
    expect(emulated::alive() == 0, std::to_string(emulated::alive()) + " things were never freed");
    return report();
}
