// What an instruction set's op struct must offer: the contract between the kernels, which are templates over it, and
// the registers of one kind of processor. Every instruction set's file asserts it.
//
// Registers are of three kinds: Reg holds `lanes` floats, Int as many int32, Reg64 `lanes_f64` doubles. Pointers need
// no alignment, and an operation touches exactly as many elements as its comment says. Float arithmetic rounds to
// nearest, is correctly rounded, and passes NaN on unless the comment says otherwise: csrc/README.md's proofs rest on
// that. The caller sees to the environment (matcher/arithmetic.hpp). Nothing here allocates or throws.
#pragma once

#include <concepts>
#include <cstdint>

#include "matcher/codes.hpp"

namespace spadeline {

// What a byte shuffle takes for a lane that gets one byte of a window: channel `channel` of a pixel of `bytes` bytes,
// and zeros. Here is no fourth channel if there are three bytes.
static constexpr int32_t lane_byte(int bytes, int pixel, int channel) {
    return static_cast<int32_t>(0x80808000u | static_cast<uint32_t>(channel < bytes ? bytes * pixel + channel : 0x80));
}

// The sizes that kernels are unrolled by.
template <class Op>
concept RegisterSizes =
    // Floats in a register: a panel of kPanel cells, and the 16 pairs of a block, are whole registers.
    Op::lanes >= 4 && Op::lanes <= kPanel && kPanel % Op::lanes == 0 &&
    // Doubles in a register.
    Op::lanes_f64 >= 1 && Op::lanes % Op::lanes_f64 == 0 &&
    // The dense path's tile (tile.hpp): `rows` gallery vectors by `vectors` registers of queries. Its sums, the
    // queries and one broadcast value stay in registers: rows * vectors + vectors + 1 of them.
    Op::rows >= 1 && Op::rows <= 32 && Op::vectors >= 1 &&
    // Queries of the pruned path's tile (coarse.hpp): their sums with a panel stay in registers.
    Op::queries >= 1 &&
    // What a product of two bytes costs, in the dense path's multiply-adds: the guard counts in these.
    Op::byte_cost >= 1 &&
    // The largest part of a frame's finest pairs that the dense path multiplies as codes. Where coarser levels leave
    // more open, features take less time: instructions that multiply bytes make it 1.
    Op::most_coded > 0 && Op::most_coded <= 1 &&
    // By how much `gallery_codes` leaves the gallery's bytes too large: kByteOffset as they are stored, 0 as signed.
    (Op::byte_offset == 0 || Op::byte_offset == kByteOffset);

// Float32: the dense path's products, the encoder, and bounds.
template <class Op>
concept FloatOps =
    requires(typename Op::Reg a, typename Op::Reg b, typename Op::Reg c, const float* p, float* out, float value,
             int64_t n, int halvings, const uint16_t* half, int8_t* bytes, typename Op::Int index) {
        // p[0 … lanes).
        { Op::load(p) } -> std::same_as<typename Op::Reg>;
        // out[0 … lanes) = a.
        { Op::store(out, a) } -> std::same_as<void>;
        // *p in every lane.
        { Op::broadcast(p) } -> std::same_as<typename Op::Reg>;
        // `value` in every lane.
        { Op::broadcast_value(value) } -> std::same_as<typename Op::Reg>;
        // a + b.
        { Op::add(a, b) } -> std::same_as<typename Op::Reg>;
        // a - b.
        { Op::sub(a, b) } -> std::same_as<typename Op::Reg>;
        // a * b.
        { Op::mul(a, b) } -> std::same_as<typename Op::Reg>;
        // a * b + c, rounded once or twice.
        { Op::fma(a, b, c) } -> std::same_as<typename Op::Reg>;
        // The larger of a and b; b where a is NaN. b isn't NaN.
        { Op::max(a, b) } -> std::same_as<typename Op::Reg>;
        // The square root; a is not negative.
        { Op::sqrt(a) } -> std::same_as<typename Op::Reg>;
        // The larger of a and 0; 0 where a is NaN.
        { Op::positive(a) } -> std::same_as<typename Op::Reg>;
        // The sum of all lanes, always in the same order.
        { Op::reduce(a) } -> std::same_as<float>;
        // The largest of all lanes; any number if one of them is NaN.
        { Op::reduce_max(a) } -> std::same_as<float>;
        // The nearest whole number, ties to the even one.
        { Op::round(a) } -> std::same_as<typename Op::Reg>;
        // Bit i is set where lane i has a <= b, which NaN never has; no other bit is.
        { Op::at_most(a, b) } -> std::same_as<uint32_t>;
        // Not zero if any lane lacks a > b, which NaN never has: what can't be ruled out passes.
        { Op::not_above(a, b) } -> std::same_as<uint32_t>;
        // Lane i gets p[(n + i) >> 2 * halvings]; n is a multiple of lanes, halvings is not negative.
        { Op::expand(p, n, halvings) } -> std::same_as<typename Op::Reg>;
        // Lane i gets p[i % 4].
        { Op::tile4(p) } -> std::same_as<typename Op::Reg>;
        // Lane i gets p[i / 4].
        { Op::repeat4(p) } -> std::same_as<typename Op::Reg>;
        // out[0 … n) = the n float16 numbers from `half` on, exactly.
        { Op::widen(half, out, n) } -> std::same_as<void>;
        // Lane i gets p[index_i]; indices lie from 0 to lanes - 1, and all of p[0 … lanes) may be read.
        { Op::pick(p, index) } -> std::same_as<typename Op::Reg>;
        // bytes[0 … lanes) = a, whose lanes are whole numbers from -127 to 127.
        { Op::store_bytes(bytes, a) } -> std::same_as<void>;
    };

// Products of codes' bytes, exact. `Codes` holds 4 * lanes bytes of the gallery, four dims of each of `lanes` vectors;
// `Sum` holds sums of products in whatever form the processor makes them. The query's bytes lie between -127 and 127,
// and a sum has at most kMostDims products, so that 32 bits hold it.
template <class Op>
concept ByteOps = requires(typename Op::Sum& sum, const typename Op::Sum* sums, const typename Op::Codes& codes,
                           typename Op::Int a, typename Op::Int b, typename Op::Int* totals, const uint8_t* gallery,
                           const int8_t* query, const int32_t* p, int32_t value) {
    // gallery[0 … 4 lanes), each byte less kByteOffset - byte_offset.
    { Op::gallery_codes(gallery) } -> std::same_as<typename Op::Codes>;
    // gallery[0 … 4) in every lane, likewise.
    { Op::broadcast_codes(gallery) } -> std::same_as<typename Op::Codes>;
    // A sum of nothing.
    { Op::zero_sum() } -> std::same_as<typename Op::Sum>;
    // Adds to every lane the products of its four bytes with query[4 lane … 4 lane + 4).
    { Op::dot(sum, codes, query) } -> std::same_as<void>;
    // Adds to every lane the products of its four bytes with query[0 … 4).
    { Op::dot_broadcast(sum, codes, query) } -> std::same_as<void>;
    // The sum of every lane.
    { Op::totals(sum) } -> std::same_as<typename Op::Int>;
    // sums[q], q from 0 to 3, has in lane 4 p + g a part p of query vector q's product with gallery vector g. Lane
    // 4 q + g of the 16 / lanes registers `totals` gets the whole product.
    { Op::block_totals(sums, totals) } -> std::same_as<void>;
    // p[0 … lanes).
    { Op::load_int(p) } -> std::same_as<typename Op::Int>;
    // `value` in every lane.
    { Op::broadcast_int(value) } -> std::same_as<typename Op::Int>;
    // a - b, which doesn't overflow.
    { Op::sub_int(a, b) } -> std::same_as<typename Op::Int>;
    // To the nearest float, ties to even.
    { Op::to_float(a) } -> std::same_as<typename Op::Reg>;
};

// Float64, which decides. Equal operations on equal values give equal results: ties between neighbours rest on that.
template <class Op>
concept DoubleOps =
    requires(typename Op::Reg64 a, typename Op::Reg64 b, typename Op::Reg64 c, const float* p, double value) {
        // 0 in every lane.
        { Op::zero64() } -> std::same_as<typename Op::Reg64>;
        // `value` in every lane.
        { Op::broadcast64(value) } -> std::same_as<typename Op::Reg64>;
        // The floats p[0 … lanes_f64), widened.
        { Op::load64(p) } -> std::same_as<typename Op::Reg64>;
        // a + b.
        { Op::add64(a, b) } -> std::same_as<typename Op::Reg64>;
        // a - b.
        { Op::sub64(a, b) } -> std::same_as<typename Op::Reg64>;
        // a * b + c, rounded once or twice.
        { Op::fma64(a, b, c) } -> std::same_as<typename Op::Reg64>;
        // The sum of all lanes, always in the same order.
        { Op::reduce64(a) } -> std::same_as<double>;
    };

// Pictures' pixels of `bytes` bytes each, 3 or 4, as four lanes: a register has lanes / 4 *parts* of them.
template <class Op>
concept PixelOps = requires(const typename Op::Windows& windows, typename Op::Reg a, typename Op::Reg* four,
                            const uint8_t* p, const int32_t* at, uint8_t* out) {
    // Part i is the window p[at[i] … at[i] + 16); there is an offset for each part.
    { Op::windows(p, at) } -> std::same_as<typename Op::Windows>;
    // Every window's pixel 1, here of 3 or 4 bytes: a byte in each lane, and 0 in the fourth one if there are 3.
    { Op::template pixels<3, 1>(windows) } -> std::same_as<typename Op::Reg>;
    { Op::template pixels<4, 1>(windows) } -> std::same_as<typename Op::Reg>;
    // In each part of four registers, lane i of register j and lane j of register i change places.
    { Op::turn4(four) } -> std::same_as<void>;
    // out[0 … lanes) = a, which isn't negative or NaN, as the nearest bytes, ties to the even one; 255 at most.
    { Op::store_pixels(out, a) } -> std::same_as<void>;
};

template <class Op>
concept InstructionSet = RegisterSizes<Op> && FloatOps<Op> && ByteOps<Op> && PixelOps<Op> && DoubleOps<Op>;

}  // namespace spadeline
