// Plain C++: always built, always tested, and what other instruction sets are compared with. Registers are arrays of
// four, and tiles are small: a compiler that vectorises them has at least 16 registers of four floats.
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/half.hpp"

namespace spadeline {
namespace {

template <class T>
struct Four {
    T at[4];
};

template <class R, class F>
R each(const F& value) {
    R result;
    for (int i = 0; i < 4; ++i) result.at[i] = value(i);
    return result;
}

struct Scalar {
    using Reg = Four<float>;
    using Reg64 = double;
    static constexpr int lanes = 4, vectors = 2, rows = 2, lanes_f64 = 1, registers = 16;

    static Reg load(const float* p) {
        return each<Reg>([&](int i) { return p[i]; });
    }
    static void store(float* p, const Reg& a) {
        for (int i = 0; i < 4; ++i) p[i] = a.at[i];
    }
    static Reg broadcast(const float* p) { return broadcast_value(*p); }
    static Reg broadcast_value(float value) {
        return each<Reg>([&](int) { return value; });
    }
    static Reg add(const Reg& a, const Reg& b) {
        return each<Reg>([&](int i) { return a.at[i] + b.at[i]; });
    }
    static Reg sub(const Reg& a, const Reg& b) {
        return each<Reg>([&](int i) { return a.at[i] - b.at[i]; });
    }
    static Reg mul(const Reg& a, const Reg& b) {
        return each<Reg>([&](int i) { return a.at[i] * b.at[i]; });
    }
    static Reg fma(const Reg& a, const Reg& b, const Reg& sum) {
        return each<Reg>([&](int i) { return a.at[i] * b.at[i] + sum.at[i]; });
    }
    static Reg max(const Reg& a, const Reg& b) {
        return each<Reg>([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
    }
    static float reduce(const Reg& a) { return (a.at[0] + a.at[2]) + (a.at[1] + a.at[3]); }
    static float reduce_max(const Reg& a) {
        float most = a.at[0];
        for (int i = 1; i < lanes; ++i) most = a.at[i] > most ? a.at[i] : most;
        return most;
    }
    static Reg round(const Reg& a) {
        return each<Reg>([&](int i) { return __builtin_rintf(a.at[i]); });
    }
    static void store_bytes(int8_t* p, const Reg& a) {
        for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(a.at[i]);
    }
    static Reg sqrt(const Reg& a) {
        return each<Reg>([&](int i) { return __builtin_sqrtf(a.at[i]); });
    }
    static Reg positive(const Reg& a) {
        return each<Reg>([&](int i) { return a.at[i] > 0 ? a.at[i] : 0.0f; });
    }
    static uint32_t not_above(const Reg& a, const Reg& b) {
        uint32_t bits = 0;
        for (int i = 0; i < 4; ++i) bits |= static_cast<uint32_t>(!(a.at[i] > b.at[i])) << i;
        return bits;
    }
    static uint32_t at_most(const Reg& a, const Reg& b) {
        uint32_t bits = 0;
        for (int i = 0; i < 4; ++i) bits |= static_cast<uint32_t>(a.at[i] <= b.at[i]) << i;
        return bits;
    }
    static Reg expand(const float* base, int64_t position, int halvings) {
        return each<Reg>([&](int i) { return base[(position + i) >> (2 * halvings)]; });
    }
    static Reg tile4(const float* p) { return load(p); }
    static Reg repeat4(const float* p) { return broadcast(p); }
    static void widen(const uint16_t* half, float* out, int64_t n) {
        for (int64_t i = 0; i < n; ++i) out[i] = half_to_float(half[i]);
    }

    static constexpr int queries = 4;
    static constexpr int64_t byte_cost = 1;
    static constexpr double most_coded = 0.85;
    static constexpr int32_t byte_offset = kByteOffset;
    using Int = Four<int32_t>;
    using Sum = Int;
    struct Codes {
        uint8_t at[16];
    };
    static Int load_int(const int32_t* p) {
        return each<Int>([&](int i) { return p[i]; });
    }
    static Int broadcast_int(int32_t value) {
        return each<Int>([&](int) { return value; });
    }
    static Int sub_int(const Int& a, const Int& b) {
        return each<Int>([&](int i) { return a.at[i] - b.at[i]; });
    }
    static Reg to_float(const Int& a) {
        return each<Reg>([&](int i) { return static_cast<float>(a.at[i]); });
    }
    static Reg pick(const float* p, const Int& index) {
        return each<Reg>([&](int i) { return p[index.at[i]]; });
    }
    static Sum zero_sum() { return broadcast_int(0); }
    static Codes gallery_codes(const uint8_t* p) {
        Codes codes;
        for (int i = 0; i < 16; ++i) codes.at[i] = p[i];
        return codes;
    }
    static Codes broadcast_codes(const uint8_t* p) {
        Codes codes;
        for (int i = 0; i < 16; ++i) codes.at[i] = p[i % 4];
        return codes;
    }
    static void dot(Sum& sum, const Codes& gallery, const int8_t* query) {
        for (int i = 0; i < 16; ++i) sum.at[i / 4] += gallery.at[i] * query[i];
    }
    static void dot_broadcast(Sum& sum, const Codes& gallery, const int8_t* query) {
        for (int i = 0; i < 16; ++i) sum.at[i / 4] += gallery.at[i] * query[i % 4];
    }
    static Int totals(const Sum& sum) { return sum; }
    static void block_totals(const Sum* sums, Int* out) {
        for (int q = 0; q < 4; ++q) out[q] = sums[q];
    }

    struct Windows {
        const uint8_t* at;
    };
    static Windows windows(const uint8_t* p, const int32_t* at) { return {p + *at}; }
    template <int bytes, int pixel>
    static Reg pixels(const Windows& w) {
        return each<Reg>([&](int i) { return i < bytes ? static_cast<float>(w.at[bytes * pixel + i]) : 0.0f; });
    }
    static void turn4(Reg* r) {
        Reg turned[4];
        for (int i = 0; i < 4; ++i) turned[i] = each<Reg>([&](int j) { return r[j].at[i]; });
        for (int i = 0; i < 4; ++i) r[i] = turned[i];
    }
    static void store_pixels(uint8_t* p, const Reg& a) {
        const Reg whole = round(a);
        for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(whole.at[i] < 255 ? whole.at[i] : 255);
    }

    static Reg64 zero64() { return 0; }
    static Reg64 broadcast64(double value) { return value; }
    static Reg64 load64(const float* p) { return *p; }
    static Reg64 add64(Reg64 a, Reg64 b) { return a + b; }
    static Reg64 sub64(Reg64 a, Reg64 b) { return a - b; }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return a * b + sum; }
    static double reduce64(Reg64 a) { return a; }
};

static_assert(InstructionSet<Scalar>);

bool supported() { return true; }

}  // namespace

const Kernels* scalar_kernels() {
    static constexpr Kernels kernels = kernels_of<Scalar>("scalar", supported);
    return &kernels;
}

}  // namespace spadeline
