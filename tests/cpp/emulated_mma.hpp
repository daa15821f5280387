// matcher/cuda/mma.cuh for a C++ compiler. Its tensor cores round as badly as the hardware may. Its copies arrive at
// once, or only when they are waited for.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

namespace emulated {

// Rounds towards zero.
inline float truncated(double value) {
    auto result = static_cast<float>(value);
    const bool beyond = std::fabs(static_cast<double>(result)) > std::fabs(value);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(result) - (beyond ? 1u : 0u));
}

inline float channel_of(uint32_t word, int i) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * i))));
}

struct Copy {
    std::byte* to;
    const void* from;
    size_t bytes;
    bool present;

    void arrive() const {
        if (present) std::memcpy(to, from, bytes);
        if (!present) std::memset(to, 0, bytes);
    }
};
struct Copies {
    std::vector<std::vector<Copy>> groups{1};  // the last one isn't closed yet
};
inline thread_local Copies copies_of[1024];  // one for each thread of the block

}  // namespace emulated

namespace spadeline::cuda {

inline SharedAddress shared_address(const void* place) {
    return static_cast<SharedAddress>(static_cast<const std::byte*>(place) - shared_memory());
}

// Lane i gives the place of row i % 8 of the (i / 8)-th 8 x 8 matrix. Word j is the lane's part of the j-th matrix.
template <int count>
inline void load_words(uint32_t* words, SharedAddress place, emulated::Where where) {
    struct Record {
        const std::byte* row;
        uint32_t* words;
    } record{shared_memory() + place, words};
    if (place % 16 != 0) emulated::fail("ldmatrix wants rows on 16 bytes", where);
    const auto together = [](Record* const* lanes) {
        for (int lane = 0; lane < 32; ++lane)
            for (int j = 0; j < count; ++j)
                std::memcpy(lanes[lane]->words + j, lanes[8 * j + lane / 4]->row + 4 * (lane % 4), 4);
    };
    emulated::collective("ldmatrix", 0xffffffff, record, together, where);
}
inline void load(Rows& rows, SharedAddress place, emulated::Where where = emulated::Where::current()) {
    load_words<4>(rows.word, place, where);
}
inline void load(Columns& first, Columns& second, SharedAddress place,
                 emulated::Where where = emulated::Where::current()) {
    uint32_t words[4];
    load_words<4>(words, place, where);
    first = {{words[0], words[1]}};
    second = {{words[2], words[3]}};
}
inline void load(Columns& columns, SharedAddress place, emulated::Where where = emulated::Where::current()) {
    load_words<2>(columns.word, place, where);
}

// Adds four products at a time to the sum without rounding, then truncates the sum.
template <int R, int C>
void multiply(float (&sums)[R][C][4], const Rows (&rows)[R], const Columns (&columns)[C],
              emulated::Where where = emulated::Where::current()) {
    struct Record {
        float (*sums)[C][4];
        const Rows* rows;
        const Columns* columns;
    } record{sums, rows, columns};
    const auto together = [](Record* const* lanes) {
        float row[16 * R][16], column[8 * C][16];
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 2; ++i) {
                const int channel = 2 * (lane % 4) + i;
                for (int r = 0; r < R; ++r)
                    for (int w = 0; w < 4; ++w)
                        row[16 * r + lane / 4 + 8 * (w % 2)][channel + 8 * (w / 2)] =
                            emulated::channel_of(lanes[lane]->rows[r].word[w], i);
                for (int c = 0; c < C; ++c)
                    for (int w = 0; w < 2; ++w)
                        column[8 * c + lane / 4][channel + 8 * w] =
                            emulated::channel_of(lanes[lane]->columns[c].word[w], i);
            }
        for (int lane = 0; lane < 32; ++lane)
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c)
                    for (int i = 0; i < 4; ++i) {
                        const float* a = row[16 * r + lane / 4 + 8 * (i / 2)];
                        const float* b = column[8 * c + 2 * (lane % 4) + i % 2];
                        float& sum = lanes[lane]->sums[r][c][i];
                        for (int k = 0; k < 16; k += 4) {
                            double exact = sum;
                            for (int j = k; j < k + 4; ++j) exact += static_cast<double>(a[j]) * b[j];
                            sum = emulated::truncated(exact);
                        }
                    }
    };
    emulated::collective("mma", 0xffffffff, record, together, where);
}
inline void multiply(float (&sums)[4], const Rows& rows, const Columns& columns,
                     emulated::Where where = emulated::Where::current()) {
    float all[1][1][4] = {{{sums[0], sums[1], sums[2], sums[3]}}};
    multiply(all, {rows}, {columns}, where);
    for (int i = 0; i < 4; ++i) sums[i] = all[0][0][i];
}

template <int bytes>
void start_copy(SharedAddress to, const void* from, bool present = true,
                emulated::Where where = emulated::Where::current()) {
    if (to % bytes || reinterpret_cast<uintptr_t>(from) % bytes) emulated::fail("cp.async wants whole units", where);
    static thread_local uint32_t drawn = 1;
    drawn = drawn * 1664525 + 1013904223;
    const emulated::Copy copy{shared_memory() + to, from, bytes, present};
    if (drawn >> 31) {
        copy.arrive();
    } else {  // until it arrives, a value with which hardly any pair passes: with NaN every pair would
        std::memset(copy.to, 0xfb, bytes);
        emulated::copies_of[threadIdx.x].groups.back().push_back(copy);
    }
}

inline void close_copies() { emulated::copies_of[threadIdx.x].groups.emplace_back(); }

template <int but>
void wait_for_copies() {
    auto& groups = emulated::copies_of[threadIdx.x].groups;
    while (groups.size() > but + 1) {
        for (const emulated::Copy& copy : groups.front()) copy.arrive();
        groups.erase(groups.begin());
    }
}

}  // namespace spadeline::cuda
