// Spreads memory over the nodes of a machine that is made up. Arguments: the mask of its nodes, in hexadecimal; whether
// the system refuses to list them (1) or to spread pages (2), or neither (0); where the memory begins, and its size.
// Prints the first page, the bytes and the mask that the system is asked for, if it is, and then whether pages are spread.
#include <cstdio>
#include <cstdlib>

#include "base/weight_memory.h"

namespace {

unsigned long machine, fault;

}  // namespace

int main(int, char** arguments) {
  using infrs::NodeCalls;
  machine = std::strtoul(arguments[1], nullptr, 16);
  fault = std::strtoul(arguments[2], nullptr, 10);
  const NodeCalls calls{[](NodeCalls::Mask& nodes) {
                          nodes[0] = machine;
                          return fault == 1 ? -1L : 0L;
                        },
                        [](void* pages, size_t size, const NodeCalls::Mask& nodes) {
                          std::printf("%zu %zu %lx ", reinterpret_cast<size_t>(pages), size, nodes[0]);
                          return fault == 2 ? -1L : 0L;
                        }};
  auto* const data = reinterpret_cast<void*>(std::strtoul(arguments[3], nullptr, 10));
  std::printf("%d\n", infrs::spread(data, std::strtoul(arguments[4], nullptr, 10), calls));
  const infrs::WeightMemory memory = infrs::allocate_weights(1 << 20);  // on this machine
  return reinterpret_cast<size_t>(memory.get()) % 64;
}
