// Counts of the parts of a JSON text.
#include <cstddef>
#include <cstdint>

namespace {

struct Counts {
  int64_t quotes, containers, commas;
};

}  // namespace

// Counts the quotes, the opening brackets and the commas of a text in one pass. Brackets and commas in strings are left
// out, and so are escaped quotes. Every processor can run this.
extern "C" __attribute__((visibility("default"), target("no-avx"))) void infrs_count_json(
    const char* text, size_t size, Counts* counts) {
  int64_t quotes = 0, containers = 0, commas = 0;
  for (const char* end = text + size; text != end; ++text) {
    switch (*text) {
      case '\\':
        if (text + 1 != end && (text[1] == '\\' || text[1] == '"')) ++text;
        break;
      case '"':
        ++quotes;
        break;
      case '[':
      case '{':
        containers += ~quotes & 1;  // an odd count: in a string
        break;
      case ',':
        commas += ~quotes & 1;
        break;
    }
  }
  *counts = {quotes, containers, commas};
}
