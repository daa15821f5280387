// A naive matcher in float64, made from the formula alone, and checks of the real matcher's answers against it.
#pragma once

#include <cstdint>
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
Request request_for(const Case& c, const Question& q, double guard_share, Answer& answer);

Answer ask(Matcher& matcher, const Case& c, const Question& q, double guard_share = kGuardShare);

class Naive {
 public:
    Naive(const Case& c, const Question& q);

    // Says what is wrong with an answer; empty if nothing is.
    std::string mistake(const Answer& answer) const;

    // Says what is wrong with its statistics.
    std::string miscount(const Statistics& statistics, bool pruned, double guard_share) const;

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

    bool within_window(int64_t p, int64_t r) const;

    // Upsamples a level's (images, channels, height, width) to (images, finest pixels, channels).
    std::vector<double> upsampled(size_t l, const std::vector<float>& map, int64_t images) const;

    double distance(int64_t p, int64_t image, int64_t r) const;

    Pixel nearest(int64_t p) const;

    // Whether a pixel with a smaller (image, y, x) has the same features as this one, and so the same sum.
    bool comes_before(int64_t image, int64_t r, const Found& other) const;

    // How far apart two float64 sums of the same terms, or two means of kappa of them, may be: csrc/README.md,
    // Decision.
    double slack(double d) const;

    static double largest_norm(const LevelShape& level, const Map& map, int64_t images);

    std::string mistake(const Pixel& pixel, const Answer& answer) const;

    // Checks neighbours whose order may differ from the naive one: each must be there once, and ties must be in order.
    std::string misordered(const Pixel& pixel, const std::vector<Found>& found) const;

    std::string ignored_mistake(int64_t p, const Answer& answer) const;

    bool valid(int64_t p, const Found& found) const;

    // Whether something is scored in each of the query's cells.
    std::vector<bool> wanted_cells() const;

    // Counts the pairs of a query cell in which something is scored and a gallery cell within its window.
    int64_t cell_pairs() const;

    std::string described(int64_t p) const;
    std::string described(const Found& found) const;
    static std::string digits(double value);

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
