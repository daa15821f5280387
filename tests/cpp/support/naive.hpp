// A naive matcher in float64, made from the formula alone, and checks of the real matcher's answers against it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "support/cases.hpp"

namespace spadeline {

// A call's results.
struct Answer {
    std::vector<double> distances;
    std::vector<int32_t> neighbours;
    Statistics statistics;
};

// A request that writes to `answer`, which is made large enough and filled with values that can't be results.
inline Request request_for(const Case& c, const Question& q, double guard_share, Answer& answer) {
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

inline Answer ask(Matcher& matcher, const Case& c, const Question& q, double guard_share = kGuardShare) {
    Answer answer;
    answer.statistics = matcher.match(request_for(c, q, guard_share, answer));
    return answer;
}

class Naive {
 public:
    Naive(const Case& c, const Question& q)
        : case_(c), question_(q), finest_(c.shape.levels()[0]), pixels_(finest_.height * finest_.width) {
        for (size_t l = 0; l < q.query.size(); ++l) {
            query_.push_back(upsampled(l, q.query[l].values, 1));
            gallery_.push_back(upsampled(l, c.gallery[l].values, c.images));
            const LevelShape& level = c.shape.levels()[l];
            channels_ += level.channels;
            magnitude_ +=
                c.weights[l] * (largest_norm(level, q.query[l], 1) + largest_norm(level, c.gallery[l], c.images));
        }
        const int64_t step = std::max<int64_t>(pixels_ / kChecked, 1);
        for (int64_t p = static_cast<int64_t>(c.seed) % step; p < pixels_; p += step)
            if (scored(p)) checked_.push_back(nearest(p));
    }

    // Says what is wrong with an answer; empty if nothing is.
    std::string mistake(const Answer& answer) const {
        std::string wrong;
        for (int64_t p = 0; p < pixels_ && wrong.empty(); ++p)
            if (!scored(p)) wrong = ignored_mistake(p, answer);
        for (size_t i = 0; i < checked_.size() && wrong.empty(); ++i) wrong = mistake(checked_[i], answer);
        return wrong;
    }

    // Says what is wrong with its statistics.
    std::string miscount(const Statistics& statistics, bool pruned, double guard_share) const {
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

 private:
    static constexpr int64_t kChecked = 48;  // pixels; up to twice as many are checked

    struct Found {
        int64_t image, r;
        bool operator==(const Found&) const = default;
    };
    struct Pixel {
        int64_t p;
        std::vector<std::tuple<double, int64_t, int64_t>> neighbours;  // (distance, image, pixel), nearest first
    };

    bool scored(int64_t p) const { return question_.ignore.empty() || !question_.ignore[p]; }
    int64_t cell_y(int64_t p) const { return p / finest_.width >> case_.shape.depth(); }
    int64_t cell_x(int64_t p) const { return p % finest_.width >> case_.shape.depth(); }

    bool within_window(int64_t p, int64_t r) const {
        return !question_.window || (std::abs(cell_y(p) - cell_y(r)) <= *question_.window &&
                                     std::abs(cell_x(p) - cell_x(r)) <= *question_.window);
    }

    // Upsamples a level's (images, channels, height, width) to (images, finest pixels, channels).
    std::vector<double> upsampled(size_t l, const std::vector<float>& map, int64_t images) const {
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
                    result.push_back((1 - down) * (1 - along) * value(top, left) +
                                     (1 - down) * along * value(top, right) + down * (1 - along) * value(bottom, left) +
                                     down * along * value(bottom, right));
                }
            }
        return result;
    }

    double distance(int64_t p, int64_t image, int64_t r) const {
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

    Pixel nearest(int64_t p) const {
        Pixel pixel{p, {}};
        for (const int64_t image : question_.ids)
            for (int64_t r = 0; r < pixels_; ++r)
                if (within_window(p, r)) pixel.neighbours.emplace_back(distance(p, image, r), image, r);
        const auto last = pixel.neighbours.begin() + question_.kappa;
        std::partial_sort(pixel.neighbours.begin(), last, pixel.neighbours.end());
        pixel.neighbours.erase(last, pixel.neighbours.end());
        return pixel;
    }

    // Whether a pixel with a smaller (image, y, x) has the same features as this one, and so the same sum.
    bool comes_before(int64_t image, int64_t r, const Found& other) const {
        if (std::tuple(image, r) >= std::tuple(other.image, other.r)) return false;
        bool same = case_.upsampling == Upsampling::nearest;
        for (size_t l = 0; l < gallery_.size() && same; ++l) {
            const int64_t channels = case_.shape.levels()[l].channels;
            const double* a = gallery_[l].data() + (image * pixels_ + r) * channels;
            same = std::equal(a, a + channels, gallery_[l].data() + (other.image * pixels_ + other.r) * channels);
        }
        return same;
    }

    // How far apart two float64 sums of the same terms, or two means of kappa of them, may be: csrc/README.md,
    // Decision.
    double slack(double d) const {
        constexpr double unit = 0x1p-53;
        const bool nested = case_.upsampling == Upsampling::nearest || case_.exact;
        const double interpolated = nested ? 0 : 7 * unit * std::sqrt(2 * magnitude_);
        const double steps = static_cast<double>(channels_ + question_.kappa + 4), root = std::sqrt(d);
        const double apart =
            steps * unit * root + 3 * interpolated;  // of roots: 2 sides, and what `d` itself is off by
        return apart * (2 * root + apart);
    }

    static double largest_norm(const LevelShape& level, const Map& map, int64_t images) {
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

    std::string mistake(const Pixel& pixel, const Answer& answer) const {
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
            const std::string text =
                described(pixel.p) + "expected " + described(Found{image, r}) + digits(d) + ", got ";
            if (!valid(pixel.p, found.back())) return text + "what isn't within reach";
            const double other = distance(pixel.p, found.back().image, found.back().r);
            if (case_.exact || !(std::abs(other - d) <= slack(d)))
                return text + described(found.back()) + digits(other);
        }
        const double expected = sum / static_cast<double>(question_.kappa), distance = answer.distances[pixel.p];
        if (!(std::abs(distance - expected) <= slack(expected)))
            return described(pixel.p) + "expected distance " + digits(expected) + ", got " + digits(distance);
        return same ? "" : misordered(pixel, found);
    }

    // Checks neighbours whose order may differ from the naive one: each must be there once, and ties must be in order.
    std::string misordered(const Pixel& pixel, const std::vector<Found>& found) const {
        for (auto at = found.begin(); at != found.end(); ++at) {
            if (std::find(found.begin(), at, *at) != at) return described(pixel.p) + "twice " + described(*at);
            for (const auto& [d, image, r] : pixel.neighbours)
                if (comes_before(image, r, *at) && std::find(found.begin(), at, Found{image, r}) == at)
                    return described(pixel.p) + "expected " + described(Found{image, r}) + "before " + described(*at);
        }
        return "";
    }

    std::string ignored_mistake(int64_t p, const Answer& answer) const {
        const auto first = answer.neighbours.begin() + p * question_.kappa * 3;
        const bool blank = std::all_of(first, first + question_.kappa * 3, [](int32_t i) { return i == -1; });
        return blank && answer.distances[p] == 0 ? "" : described(p) + "is ignored, got a distance or neighbours";
    }

    bool valid(int64_t p, const Found& found) const {
        return found.r >= 0 && found.r < pixels_ &&
               std::ranges::find(question_.ids, found.image) != question_.ids.end() && within_window(p, found.r);
    }

    // Whether something is scored in each of the query's cells.
    std::vector<bool> wanted_cells() const {
        std::vector<bool> wanted(case_.shape.cells());
        for (int64_t p = 0; p < pixels_; ++p)
            if (scored(p)) wanted[cell_y(p) * case_.shape.cell_columns() + cell_x(p)] = true;
        return wanted;
    }

    // Counts the pairs of a query cell in which something is scored and a gallery cell within its window.
    int64_t cell_pairs() const {
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

    std::string described(int64_t p) const {
        return "pixel (" + std::to_string(p / finest_.width) + ", " + std::to_string(p % finest_.width) + "): ";
    }
    std::string described(const Found& found) const {
        return "image " + std::to_string(found.image) + ", " + described(found.r);
    }
    static std::string digits(double value) {
        char text[32];
        std::snprintf(text, sizeof text, "%.17g", value);
        return text;
    }

    const Case& case_;
    const Question& question_;
    const LevelShape finest_;
    const int64_t pixels_;
    std::vector<std::vector<double>> query_, gallery_;  // (images, finest pixels, channels) a level
    int64_t channels_ = 0;                              // summed over all levels
    double magnitude_ = 0;                              // no sum of weight * |f|^2 of both sides is larger
    std::vector<Pixel> checked_;
};

}  // namespace spadeline
