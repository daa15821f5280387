#include "support/naive.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace spadeline {

Request request_for(const Case& c, const Question& q, double guard_share, Answer& answer) {
    const LevelShape& finest = c.shape.levels()[0];
    const int64_t pixels = finest.height * finest.width;
    answer.distances.assign(pixels, -1);
    answer.neighbours.assign(pixels * q.kappa * 3, -2);
    return {q.views,
            q.ids,
            q.kappa,
            q.window,
            q.ignore.empty() ? nullptr : q.ignore.data(),
            answer.distances.data(),
            answer.neighbours.data(),
            guard_share};
}

Answer ask(Matcher& matcher, const Case& c, const Question& q, double guard_share) {
    Answer answer;
    answer.statistics = matcher.match(request_for(c, q, guard_share, answer));
    return answer;
}

Naive::Naive(const Case& c, const Question& q)
    : case_(c), question_(q), finest_(c.shape.levels()[0]), pixels_(finest_.height * finest_.width) {
    for (size_t l = 0; l < q.query.size(); ++l) {
        query_.push_back(upsampled(l, q.query[l].values, 1));
        gallery_.push_back(upsampled(l, c.gallery[l].values, c.images));
        const LevelShape& level = c.shape.levels()[l];
        channels_ += level.channels;
        magnitude_ += c.weights[l] * (largest_norm(level, q.query[l], 1) + largest_norm(level, c.gallery[l], c.images));
    }
    const int64_t step = std::max<int64_t>(pixels_ / kChecked, 1);
    for (int64_t p = static_cast<int64_t>(c.seed) % step; p < pixels_; p += step)
        if (scored(p)) checked_.push_back(nearest(p));
}

std::string Naive::mistake(const Answer& answer) const {
    std::string wrong;
    for (int64_t p = 0; p < pixels_ && wrong.empty(); ++p)
        if (!scored(p)) wrong = ignored_mistake(p, answer);
    for (size_t i = 0; i < checked_.size() && wrong.empty(); ++i) wrong = mistake(checked_[i], answer);
    return wrong;
}

std::string Naive::miscount(const Statistics& statistics, bool pruned, double guard_share) const {
    const auto& [pairs, passed, exact] = statistics.counts;
    const int64_t coarsest = case_.shape.level_count() - 1;
    bool right = pairs == (pruned ? cell_pairs() : 0) && passed[coarsest] <= pairs && exact <= passed[0];
    for (int64_t l = 0; l < coarsest; ++l) {
        const int64_t children = case_.shape.block(l) / case_.shape.block(l + 1);
        right &= passed[l] <= passed[l + 1] * children * children;
    }
    int64_t wanted = 0;
    for (int64_t p = 0; p < pixels_; ++p) wanted += scored(p) ? question_.kappa : 0;
    if (!pruned || std::isinf(guard_share)) right &= statistics.guarded_cells == 0;
    if (pruned && std::isinf(guard_share)) right &= exact >= wanted;
    if (pruned && guard_share == 0) right &= statistics.guarded_cells == std::ranges::count(wanted_cells(), true);
    if (right) return "";
    return "pairs " + std::to_string(pairs) + " of " + std::to_string(cell_pairs()) + ", " +
           std::to_string(passed[coarsest]) + " passed, " + std::to_string(passed[0]) + " at the finest level, " +
           std::to_string(exact) + " exact, " + std::to_string(statistics.guarded_cells) + " guarded";
}

bool Naive::within_window(int64_t p, int64_t r) const {
    return !question_.window || (std::abs(cell_y(p) - cell_y(r)) <= *question_.window &&
                                 std::abs(cell_x(p) - cell_x(r)) <= *question_.window);
}

std::vector<double> Naive::upsampled(size_t l, const std::vector<float>& map, int64_t images) const {
    const LevelShape& level = case_.shape.levels()[l];
    const auto taps = [&](int64_t p, int64_t size) {  // two positions and the second one's weight
        double at = std::ldexp(static_cast<double>(p) + 0.5, -level.shift) - 0.5;
        if (case_.upsampling == Upsampling::nearest) at = static_cast<double>(p >> level.shift);
        at = std::clamp(at, 0.0, static_cast<double>(size - 1));
        const auto low = static_cast<int64_t>(at);
        return std::tuple(low, std::min(low + 1, size - 1), at - static_cast<double>(low));
    };
    std::vector<double> result;
    for (int64_t n = 0; n < images; ++n)
        for (int64_t p = 0; p < pixels_; ++p) {
            const auto [top, bottom, down] = taps(p / finest_.width, level.height);
            const auto [left, right, along] = taps(p % finest_.width, level.width);
            for (int64_t c = 0; c < level.channels; ++c) {
                const float* plane = map.data() + (n * level.channels + c) * level.height * level.width;
                const auto value = [&](int64_t y, int64_t x) -> double { return plane[y * level.width + x]; };
                result.push_back((1 - down) * (1 - along) * value(top, left) + (1 - down) * along * value(top, right) +
                                 down * (1 - along) * value(bottom, left) + down * along * value(bottom, right));
            }
        }
    return result;
}

double Naive::distance(int64_t p, int64_t image, int64_t r) const {
    double sum = 0;
    for (size_t l = 0; l < query_.size(); ++l) {
        const int64_t channels = case_.shape.levels()[l].channels;
        const double* a = query_[l].data() + p * channels;
        const double* b = gallery_[l].data() + (image * pixels_ + r) * channels;
        double part = 0;
        for (int64_t c = 0; c < channels; ++c) part += (a[c] - b[c]) * (a[c] - b[c]);
        sum += case_.weights[l] * part;
    }
    return sum;
}

Naive::Pixel Naive::nearest(int64_t p) const {
    Pixel pixel{p, {}};
    for (const int64_t image : question_.ids)
        for (int64_t r = 0; r < pixels_; ++r)
            if (within_window(p, r)) pixel.neighbours.emplace_back(distance(p, image, r), image, r);
    const auto last = pixel.neighbours.begin() + question_.kappa;
    std::partial_sort(pixel.neighbours.begin(), last, pixel.neighbours.end());
    pixel.neighbours.erase(last, pixel.neighbours.end());
    return pixel;
}

bool Naive::comes_before(int64_t image, int64_t r, const Found& other) const {
    if (std::tuple(image, r) >= std::tuple(other.image, other.r)) return false;
    bool same = case_.upsampling == Upsampling::nearest;
    for (size_t l = 0; l < gallery_.size() && same; ++l) {
        const int64_t channels = case_.shape.levels()[l].channels;
        const double* a = gallery_[l].data() + (image * pixels_ + r) * channels;
        same = std::equal(a, a + channels, gallery_[l].data() + (other.image * pixels_ + other.r) * channels);
    }
    return same;
}

double Naive::slack(double d) const {
    constexpr double unit = 0x1p-53;
    const bool nested = case_.upsampling == Upsampling::nearest || case_.exact;
    const double interpolated = nested ? 0 : 7 * unit * std::sqrt(2 * magnitude_);
    const double steps = static_cast<double>(channels_ + question_.kappa + 4), root = std::sqrt(d);
    const double apart = steps * unit * root + 3 * interpolated;  // of roots: 2 sides, and what `d` itself is off by
    return apart * (2 * root + apart);
}

double Naive::largest_norm(const LevelShape& level, const Map& map, int64_t images) {
    const int64_t plane = level.height * level.width;
    double largest = 0;
    for (int64_t n = 0; n < images; ++n)
        for (int64_t p = 0; p < plane; ++p) {
            double norm = 0;
            for (int64_t c = 0; c < level.channels; ++c) {
                const double value = map.values[(n * level.channels + c) * plane + p];
                norm += value * value;
            }
            largest = std::max(largest, norm);
        }
    return largest;
}

std::string Naive::mistake(const Pixel& pixel, const Answer& answer) const {
    double sum = 0;
    std::vector<Found> found;
    bool same = true;
    const int32_t* got = answer.neighbours.data() + pixel.p * question_.kappa * 3;
    for (const auto& [d, image, r] : pixel.neighbours) {
        sum += d;
        found.push_back({got[0], int64_t{got[1]} * finest_.width + got[2]});
        got += 3;
        if (found.back() == Found{image, r}) continue;
        same = false;
        const std::string text = described(pixel.p) + "expected " + described(Found{image, r}) + digits(d) + ", got ";
        if (!valid(pixel.p, found.back())) return text + "what isn't within reach";
        const double other = distance(pixel.p, found.back().image, found.back().r);
        if (case_.exact || !(std::abs(other - d) <= slack(d))) return text + described(found.back()) + digits(other);
    }
    const double expected = sum / static_cast<double>(question_.kappa), distance = answer.distances[pixel.p];
    if (!(std::abs(distance - expected) <= slack(expected)))
        return described(pixel.p) + "expected distance " + digits(expected) + ", got " + digits(distance);
    return same ? "" : misordered(pixel, found);
}

std::string Naive::misordered(const Pixel& pixel, const std::vector<Found>& found) const {
    for (auto at = found.begin(); at != found.end(); ++at) {
        if (std::find(found.begin(), at, *at) != at) return described(pixel.p) + "twice " + described(*at);
        for (const auto& [d, image, r] : pixel.neighbours)
            if (comes_before(image, r, *at) && std::find(found.begin(), at, Found{image, r}) == at)
                return described(pixel.p) + "expected " + described(Found{image, r}) + "before " + described(*at);
    }
    return "";
}

std::string Naive::ignored_mistake(int64_t p, const Answer& answer) const {
    const auto first = answer.neighbours.begin() + p * question_.kappa * 3;
    const bool blank = std::all_of(first, first + question_.kappa * 3, [](int32_t i) { return i == -1; });
    return blank && answer.distances[p] == 0 ? "" : described(p) + "is ignored, got a distance or neighbours";
}

bool Naive::valid(int64_t p, const Found& found) const {
    return found.r >= 0 && found.r < pixels_ && std::ranges::find(question_.ids, found.image) != question_.ids.end() &&
           within_window(p, found.r);
}

std::vector<bool> Naive::wanted_cells() const {
    std::vector<bool> wanted(case_.shape.cells());
    for (int64_t p = 0; p < pixels_; ++p)
        if (scored(p)) wanted[cell_y(p) * case_.shape.cell_columns() + cell_x(p)] = true;
    return wanted;
}

int64_t Naive::cell_pairs() const {
    const int64_t rows = case_.shape.cell_rows(), columns = case_.shape.cell_columns();
    const std::vector<bool> wanted = wanted_cells();
    const auto seen = [&](int64_t at, int64_t count) {
        if (!question_.window) return count;
        return std::min(at + *question_.window, count - 1) - std::max<int64_t>(at - *question_.window, 0) + 1;
    };
    int64_t pairs = 0;
    for (int64_t cell = 0; cell < rows * columns; ++cell)
        if (wanted[cell]) pairs += seen(cell / columns, rows) * seen(cell % columns, columns);
    return pairs * static_cast<int64_t>(question_.ids.size());
}

std::string Naive::described(int64_t p) const {
    return "pixel (" + std::to_string(p / finest_.width) + ", " + std::to_string(p % finest_.width) + "): ";
}

std::string Naive::described(const Found& found) const {
    return "image " + std::to_string(found.image) + ", " + described(found.r);
}

std::string Naive::digits(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
}

}  // namespace spadeline
