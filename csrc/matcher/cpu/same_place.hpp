// The first of the rounds: a position's distances to its own place in a few images, without codes.
//
// Parts that lie alike in all images find something near there. The others are searched with bounds: refine.hpp.
#pragma once

#include <cstdint>

#include "matcher/cpu/exact.hpp"
#include "matcher/match_task.hpp"

namespace spadeline {

template <class Op>
class SamePlace {
 public:
    // The floats of workspace that `match` needs: one vector of a float16 gallery in float32.
    static int64_t workspace_floats(const MatchTask& task) {
        int64_t floats = 0;
        for (int l = 0; l < task.level_count; ++l)
            floats = task.level[l].channels > floats ? task.level[l].channels : floats;
        return task.storage == Storage::float16 ? floats : 0;
    }

    // Compares the positions of cells [first_cell, last_cell) with the same ones in the task's images, in their order,
    // each until its mean distance is at most `enough`. A cell that is far from that gives up. Returns how many
    // distances that took.
    static int64_t match(const MatchTask& task, int64_t first_cell, int64_t last_cell, float* workspace) {
        int64_t distances = 0;
        for (int64_t cell = first_cell; cell < last_cell; ++cell)
            for (int64_t k = 0; k < task.image_count; ++k) {
                double least = __builtin_inf();
                const int64_t compared = match_cell(task, cell, task.image_ids[k], workspace, least);
                distances += compared;
                if (!compared || (k + 1 >= task.kappa && least > kFar * task.enough)) break;
            }
        return distances;
    }

 private:
    // A cell whose least mean distance is above so many times `enough` gives up: other images hardly ever change that.
    static constexpr double kFar = 2;

    // Positions of a cell lie in Morton order, so those below one position of a coarser level follow each other, and
    // its distance is computed once. The sum is that of `decide`, to the last bit: what is found again is known.
    // Lowers `least` to the least mean distance.
    static int64_t match_cell(const MatchTask& task, int64_t cell, int64_t image, float* workspace, double& least) {
        const int64_t block = task.level[0].block;
        int64_t distances = 0, entered[kMaxLevels];
        double part[kMaxLevels];
        for (int l = 0; l < task.level_count; ++l) entered[l] = -1;
        for (int64_t i = cell * block; i < (cell + 1) * block; ++i) {
            Neighbour* best = task.best + i * task.kappa;
            if (!task.scored[i]) continue;
            double mean = mean_distance(best, task.kappa);
            if (mean > task.enough) {
                double sum = 0;
                for (int l = 0; l < task.level_count; ++l) {
                    const int64_t position = i >> (2 * task.level[l].shift);
                    if (position != entered[l]) part[l] = distance(task, l, position, image, workspace);
                    entered[l] = position;
                    sum += task.level[l].weight * part[l];
                }
                insert<Op>(best, task.kappa, {sum, static_cast<int32_t>(image), static_cast<int32_t>(task.raster[i])});
                mean = mean_distance(best, task.kappa);
                ++distances;
            }
            if (mean < least) least = mean;
        }
        return distances;
    }

    static double distance(const MatchTask& task, int l, int64_t position, int64_t image, float* workspace) {
        const LevelTask& level = task.level[l];
        const int64_t at = (image * level.positions + position) * level.channels;
        const float* row = static_cast<const float*>(level.gallery) + at;
        if (task.storage == Storage::float16) {
            Op::widen(static_cast<const uint16_t*>(level.gallery) + at, workspace, level.channels);
            row = workspace;
        }
        return squared_distance<Op>(level.query + position * level.channels, row, level.channels);
    }
};

}  // namespace spadeline
