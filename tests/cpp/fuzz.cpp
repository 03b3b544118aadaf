// A fuzz target for libFuzzer: whatever the bytes, the readers give a value or one of our errors, soon.
//
// cmake -S tests/cpp -B build/fuzz -DYOWO_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ && cmake --build build/fuzz --target
// fuzz build/fuzz/fuzz -max_len=8192 tests/cpp/corpus
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include "yowo/yowo.hpp"

namespace {

template <class Read>
void attempt(const std::string& bytes, const Read& read) {
  std::istringstream stream(bytes);
  try {
    read(stream);
  } catch (const yowo::YowoError&) {
  }
}

}  // namespace

// The first byte says which reader the others are for.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (!size) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      attempt(bytes, [&](std::istream&) { yowo::ModelSpec::from_json(bytes); });
      attempt(bytes, [&](std::istream&) { yowo::detail::Inflater(bytes).run(1 << 16); });
      break;
    case 1:
      attempt(bytes, [&](std::istream& stream) { yowo::OnnxFile::read(stream, "fuzz", true).spec("fuzz"); });
      break;
    case 2:
      attempt(bytes, [&](std::istream& stream) { yowo::is_plan(stream), yowo::PlanFile::read(stream, "fuzz"); });
      break;
    default: {  // the record of a plan with the right checksum, which no mutation finds
      const std::string record = "ftrt yowo-plan/1 json " + std::to_string(bytes.size()) + " ";
      std::ostringstream crc;
      crc << std::hex;
      crc.width(8), crc.fill('0');
      crc << yowo::detail::crc32(bytes);
      attempt(record + crc.str() + " " + bytes, [&](std::istream& stream) { yowo::PlanFile::read(stream, "fuzz"); });
    }
  }
  return 0;
}
