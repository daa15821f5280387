#include "support/cases.hpp"

#include <algorithm>
#include <cmath>

#include "matcher/sizes.hpp"

namespace spadeline {

namespace {

PyramidShape random_shape(Random& random) {
    constexpr int64_t sides[] = {4, 8, 8, 14, 14, 28}, widths[] = {8, 20, 40, 70, 270};
    const int64_t side = sides[random.below(6)], most = widths[random.below(side < 14 ? 5 : side < 28 ? 3 : 2)];
    const int64_t height = random.upto(side), width = random.upto(side), count = random.upto(kMaxLevels);
    std::vector<LevelKind> levels;
    for (int shift = 0; std::ssize(levels) < count; shift += static_cast<int>(random.upto(2)))
        levels.push_back({random.upto(most), shift});
    return PyramidShape(height, width, levels);
}

}  // namespace

Codes encode(const Case& c, const Kernels& kernels) {
    Codes codes;
    for (int64_t l = 0; l < c.shape.level_count(); ++l) {
        const bool finest = l == 0, coarsest = l + 1 == c.shape.level_count();
        const int64_t channels = c.shape.levels()[l].channels, positions = c.shape.positions(l);
        const int64_t group = group_size(coarsest), groups = ceil_div(positions, group);
        const auto records = [&](bool wanted, int64_t directions) {
            std::vector<uint8_t> bytes;
            if (!wanted) return bytes;
            const LevelEncoder encoder(kernels, channels, directions, c.bases[l].data());
            const int64_t size = groups * encoder.record(group);
            bytes.resize(c.images * size);
            for (int64_t n = 0; n < c.images; ++n)
                encoder.encode_records(c.cells[l].values.data() + n * positions * channels, positions, group,
                                       bytes.data() + n * size);
            return bytes;
        };
        codes.projected.push_back(records(!finest, static_cast<int64_t>(c.bases[l].size()) / channels - 1));
        codes.rotated.push_back(records(finest || !coarsest, 0));
    }
    return codes;
}

Gallery gallery_of(const Case& c, const Codes* codes) {
    Gallery gallery{c.images, c.storage, {}, c.weights, {}};
    for (int64_t l = 0; l < c.shape.level_count(); ++l) {
        gallery.levels.push_back(c.cells[l].data());
        if (!codes) continue;
        const auto data = [](const std::vector<uint8_t>& bytes) { return bytes.empty() ? nullptr : bytes.data(); };
        gallery.codes.push_back({c.bases[l].data(),
                                 static_cast<int64_t>(c.bases[l].size()) / c.shape.levels()[l].channels - 1,
                                 data(codes->projected[l]), data(codes->rotated[l])});
    }
    return gallery;
}

std::string text_of(const Case& c, const Question& q) {
    std::string text;
    for (const LevelShape& l : c.shape.levels())
        text += std::to_string(l.channels) + " x " + std::to_string(l.height) + " x " + std::to_string(l.width) + " (" +
                std::to_string(l.shift) + "), ";
    return text + (c.upsampling == Upsampling::nearest ? "" : "bilinear, ") + std::to_string(q.ids.size()) + " of " +
           std::to_string(c.images) + " images, kappa " + std::to_string(q.kappa) + ", window " +
           (q.window ? std::to_string(*q.window) : "none");
}

Question random_question(Random& random, const Case& c, const std::vector<Values>& values) {
    Question q{{}, random.one_in(3) ? Storage::float16 : Storage::float32, {}, 1, {}, {}, {}};
    const int64_t origin = random.below(3),
                  from = random.below(c.images);  // 0: the query is a gallery image; 1: it is close to one
    for (size_t l = 0; l < c.shape.levels().size(); ++l) {
        const LevelShape& level = c.shape.levels()[l];
        q.query.push_back(random_map(random, values[l], level, 1));
        const auto size = static_cast<int64_t>(q.query[l].values.size());
        for (int64_t i = 0; i < size && origin < 2; ++i) {
            const float original = c.gallery[l].values[from * size + i];
            q.query[l].values[i] =
                origin == 0 ? original : static_cast<float>(original * (1 - 1e-3 * random.uniform()));
        }
        store(q.query[l], q.storage);
    }
    for (size_t l = 0; l < q.query.size(); ++l) q.views.push_back({q.query[l].data(), q.storage});
    for (int64_t i = 0; i < c.images; ++i) q.ids.push_back(i);
    for (int64_t i = c.images - 1; i > 0; --i) std::swap(q.ids[i], q.ids[random.below(i + 1)]);
    q.ids.resize(random.upto(c.images));
    if (!random.one_in(2)) q.window = random.below(4);
    constexpr int64_t kappas[] = {1, 1, 2, 5, 16, 40, 200};
    q.kappa = std::min(kappas[random.below(7)], static_cast<int64_t>(q.ids.size()) * c.shape.reachable(q.window));
    constexpr double ignored[] = {0, 0, 0, 0, 0, 0.1, 0.5, 1};  // the part of the pixels that is ignored
    const double share = ignored[random.below(8)];
    const LevelShape& finest = c.shape.levels()[0];
    for (int64_t i = 0; i < finest.height * finest.width && share > 0; ++i)
        q.ignore.push_back(random.uniform() < share ? 1 : 0);
    return q;
}

Case random_case(uint64_t seed, int64_t question_count, const std::optional<PyramidShape>& shape,
                 const std::optional<Values>& chosen) {
    Random random(seed);
    Case c{seed,
           shape ? *shape : random_shape(random),
           random.upto(4),
           Storage::float32,
           Upsampling::nearest,
           1,
           true,
           {},
           {},
           {},
           {},
           {}};
    if (random.one_in(3) && !chosen) c.storage = Storage::float16;
    c.threads = static_cast<int>(random.upto(3));
    const bool weighted = random.one_in(2), mixed = random.one_in(4) && !chosen;
    const auto any_values = [&] {  // most often values that pruning is made for
        return random.one_in(3) ? Values::smooth
                                : static_cast<Values>(random.below(static_cast<int64_t>(Values::count)));
    };
    const Values all = chosen ? *chosen : any_values();
    if (random.one_in(all == Values::brink ? 2 : 8)) c.upsampling = Upsampling::bilinear;
    std::vector<Values> values;
    for (int64_t l = 0; l < c.shape.level_count(); ++l) {
        const LevelShape& level = c.shape.levels()[l];
        values.push_back(mixed ? any_values() : all);
        c.exact &= whole_numbers(values[l]);
        c.weights.push_back(weighted ? std::pow(10.0, 12 * random.uniform() - 6) : 1);
        Map map = random_map(random, values[l], level, c.images);
        const int64_t size = level.channels * level.height * level.width;
        for (int64_t n = 1; n < c.images; ++n)  // some images are copies of the first
            if (random.one_in(4)) std::copy_n(map.values.begin(), size, map.values.begin() + n * size);
        store(map, c.storage);
        c.cells.push_back(to_cells(c.shape, l, map, c.images));
        c.gallery.push_back(std::move(map));
        const int64_t most = l > 0 ? level.channels / 16 : 0;
        c.bases.push_back(random_basis(random, c.cells[l].values, level.channels, 16 * random.below(most + 1)));
    }
    for (int64_t i = 0; i < question_count; ++i) c.questions.push_back(random_question(random, c, values));
    return c;
}

}  // namespace spadeline
