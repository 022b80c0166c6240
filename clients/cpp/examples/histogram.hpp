// A histogram of durations, in buckets that grow by a factor of 2^(1/4).
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iomanip>
#include <ostream>
#include <string>

class Histogram {
 public:
  void add(std::chrono::nanoseconds duration) {
    const double microseconds = std::max(1.0, static_cast<double>(duration.count()) / 1000);
    const auto bucket = static_cast<std::size_t>(std::log2(microseconds) * per_octave);
    ++counts_[std::min(bucket, counts_.size() - 1)];
    ++total_;
  }

  std::uint64_t total() const { return total_; }

  // Returns the upper bound, in microseconds, of the bucket that contains the given quantile.
  double quantile(double part) const {
    std::uint64_t below = 0;
    for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      below += counts_[bucket];
      if (static_cast<double>(below) >= part * static_cast<double>(total_)) return upper(bucket);
    }
    return upper(counts_.size() - 1);
  }

  friend std::ostream& operator<<(std::ostream& out, const Histogram& histogram) {
    const auto most = *std::ranges::max_element(histogram.counts_);
    for (std::size_t bucket = 0; bucket < histogram.counts_.size(); ++bucket) {
      const auto count = histogram.counts_[bucket];
      if (count == 0) continue;
      out << "  <= " << std::setw(7) << std::lround(upper(bucket)) << " us " << std::setw(8) << count << ' '
          << std::string(1 + 50 * count / most, '#') << '\n';
    }
    return out;
  }

 private:
  static constexpr double per_octave = 4;

  static double upper(std::size_t bucket) { return std::exp2((static_cast<double>(bucket) + 1) / per_octave); }

  std::array<std::uint64_t, 96> counts_ = {};
  std::uint64_t total_ = 0;
};
