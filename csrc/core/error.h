// The three ways a call can be refused, and the one way to write the message.
//
// InvalidArgument  -> ValueError            a value is wrong (pybind11 maps std::invalid_argument)
// InvalidType      -> TypeError             a dtype or kind of array is wrong
// Unsupported      -> NotImplementedError   the request is sound, this algorithm or build cannot do it
#pragma once

#include <cstdint>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>

namespace fastconv {

struct InvalidArgument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
struct InvalidType : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// cat("stride=", 0, ": expected at least 1") -> one string
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// (1, 3, 8, 8), written as Python writes a tuple
inline std::string shape_text(std::span<const int64_t> shape) {
  std::ostringstream text;
  text << '(';
  for (size_t i = 0; i < shape.size(); ++i) text << (i ? ", " : "") << shape[i];
  text << (shape.size() == 1 ? ",)" : ")");
  return text.str();
}

// 'text', cut short: a message does not grow with what it complains of.
inline std::string quoted(const std::string& text) {
  constexpr size_t kLongest = 100;
  return "'" + (text.size() <= kLongest ? text : text.substr(0, kLongest) + "...") + "'";
}

// Sizes are products of numbers a user passed: every product that becomes a size goes through here.
inline int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    throw InvalidArgument(cat("size overflow: ", what, " = ", a, " * ", b, " does not fit in 64 bits"));
  return product;
}

inline int64_t checked_add(int64_t a, int64_t b, const char* what) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    throw InvalidArgument(cat("size overflow: ", what, " = ", a, " + ", b, " does not fit in 64 bits"));
  return sum;
}

}  // namespace fastconv
