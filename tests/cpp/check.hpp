// Named tests in a program of their own: `program NAME ARGUMENTS...` runs one, `program` lists them.
#pragma once

#include <cmath>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace check {

using Arguments = std::vector<std::string>;

inline std::map<std::string, std::function<void(const Arguments&)>>& tests() {
  static std::map<std::string, std::function<void(const Arguments&)>> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Test {
  Test(const char* name, std::function<void(const Arguments&)> run) { tests()[name] = std::move(run); }
};

inline void that(bool holds, const std::string& what) {
  if (!holds && ++failures() < 20) std::cout << "failed: " << what << "\n";
}

template <class One, class Other>
void equal(const One& found, const Other& expected, const std::string& what) {
  if (found == expected) return;
  if (++failures() < 20) std::cout << "failed: " << what << ": " << found << ", expected " << expected << "\n";
}

inline void near(double found, double expected, double tolerance, const std::string& what) {
  if (std::abs(found - expected) <= tolerance) return;
  if (++failures() < 20)
    std::cout << "failed: " << what << ": " << found << ", expected " << expected << " within " << tolerance << "\n";
}

// That `work` throws `Error`, with `part` in its message.
template <class Error, class Work>
void throws(const Work& work, const std::string& part, const std::string& what) {
  try {
    work();
    that(false, what + ": nothing was thrown");
  } catch (const Error& error) {
    that(std::string(error.what()).find(part) != std::string::npos,
         what + ": says \"" + error.what() + "\", without \"" + part + "\"");
  }
}

inline int run(int count, char** words) {
  if (count < 2) {
    for (const auto& test : tests()) std::cout << test.first << "\n";
    return 0;
  }
  const auto found = tests().find(words[1]);
  if (found == tests().end()) return std::cout << "no test is called " << words[1] << "\n", 2;
  try {
    found->second(Arguments(words + 2, words + count));
  } catch (const std::exception& error) {
    that(false, std::string("thrown: ") + error.what());
  }
  return failures() ? 1 : 0;
}

}  // namespace check

#define YOWO_TEST(name)                              \
  static void name(const check::Arguments&);         \
  static const check::Test name##_test(#name, name); \
  static void name([[maybe_unused]] const check::Arguments& arguments)
