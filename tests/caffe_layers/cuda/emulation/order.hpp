#ifndef EMULATED_CUDA_ORDER_HPP_
#define EMULATED_CUDA_ORDER_HPP_

// Which thread of a block goes on when several could: EMULATED_CUDA_ORDER. It is "forward" (the default: the first one,
// so that the first warp runs as far ahead as the barriers let it), "reverse" (the last one), or a number, the seed of
// random choices: of a warp, which then runs ahead for a while, and every time of a thread within it. (A choice among
// all threads every time would keep the warps in step, and show little.) The blocks of a grid run one after another,
// in the same order.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "internal.hpp"

namespace emulated_cuda {

const int kMaxThreads = 1024;
const int kWarp = 32;

/// A set of the numbers below kMaxThreads.
class ThreadSet {
 public:
  /// To all numbers below `count`.
  void fill(int count) {
    for (int w = 0; w < kMaxThreads / 64; ++w, count -= 64) {
      words_[w] = count >= 64 ? ~uint64_t(0) : count > 0 ? (uint64_t(1) << count) - 1 : 0;
    }
  }
  void add(int i) { words_[i / 64] |= uint64_t(1) << i % 64; }
  void remove(int i) { words_[i / 64] &= ~(uint64_t(1) << i % 64); }
  /// The first member that is not below i, or -1.
  int next(int i) const {
    uint64_t word = words_[i / 64] & (~uint64_t(0) << i % 64);
    for (int w = i / 64;;) {
      if (word) {
        return w * 64 + __builtin_ctzll(word);
      }
      if (++w == kMaxThreads / 64) {
        return -1;
      }
      word = words_[w];
    }
  }
  unsigned warp(int w) const { return static_cast<unsigned>(words_[w / 2] >> w % 2 * 32); }
  int last() const {
    for (int w = kMaxThreads / 64 - 1; w >= 0; --w) {
      if (words_[w]) {
        return w * 64 + 63 - __builtin_clzll(words_[w]);
      }
    }
    return -1;
  }

 private:
  uint64_t words_[kMaxThreads / 64];
};

class Order {
 public:
  static Order& get() {
    static Order order;
    return order;
  }

  void set(const char* text) {
    char* end = nullptr;
    state_ = strtoull(text, &end, 10);
    kind_ = *text == '\0' || strcmp(text, "forward") == 0 ? FORWARD : strcmp(text, "reverse") == 0 ? REVERSE : RANDOM;
    if (kind_ == RANDOM && *end) {
      fail("EMULATED_CUDA_ORDER: expected forward, reverse or a number, got %s", text);
    }
  }

  /// The thread that goes on, of those in the set, which are below `count`; -1 if there is none.
  int choose(const ThreadSet& set, int count) {
    if (kind_ != RANDOM) {
      return kind_ == FORWARD ? set.next(0) : set.last();
    }
    const int warps = (count + kWarp - 1) / kWarp;
    if (static_cast<int>(ranking_.size()) != warps || random() % 256 == 0) {
      ranking_ = permutation(warps);
    }
    for (const unsigned warp : ranking_) {
      if (const unsigned lanes = set.warp(warp)) {
        const int start = random() % kWarp;
        const unsigned behind = lanes >> start;
        return warp * kWarp + (behind ? start + __builtin_ctz(behind) : __builtin_ctz(lanes));
      }
    }
    return -1;
  }

  std::vector<unsigned> permutation(unsigned count) {
    std::vector<unsigned> all(count);
    std::iota(all.begin(), all.end(), 0);
    if (kind_ == REVERSE) {
      std::reverse(all.begin(), all.end());
    } else if (kind_ == RANDOM) {
      for (unsigned i = count; i > 1; --i) {
        std::swap(all[i - 1], all[random() % i]);
      }
    }
    return all;
  }

 private:
  enum Kind { FORWARD, REVERSE, RANDOM };

  Order() {
    const char* text = getenv("EMULATED_CUDA_ORDER");
    set(text ? text : "");
  }

  uint64_t random() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  Kind kind_;
  uint64_t state_;
  std::vector<unsigned> ranking_;  // of the warps
};

}  // namespace emulated_cuda

#endif  // EMULATED_CUDA_ORDER_HPP_
