#include "nearest.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "logarithm.h"

namespace infrs {
namespace {

constexpr double kUnit = 1 << 24;      // of rounded logarithms; those above -128 fit 32 bits
constexpr uint32_t kRounding = 2;      // by how much equal distances can differ in these units
constexpr double kSame = 2e-10;        // distances that differ by less may be equal, but for rounding

// Candidates with one weight.
struct Kind {
  float mass;
  double distance;
  double count;
};

// The kinds of weights near the border. At so small distances there are few, because float32 has no others.
class Kinds {
 public:
  static constexpr size_t kMost = 32;
  static constexpr uint32_t kBefore = kMost, kBehind = kMost + 1;  // numbers for those not at the border

  Kinds() { std::fill_n(places_, kPlaces, kNone); }

  // Returns the number of a weight's kind; kMost if there is no room for another.
  uint32_t of(float mass) {
    uint32_t bits;
    std::memcpy(&bits, &mass, sizeof bits);
    size_t place = bits % kPlaces;  // weights near each other have bits near each other
    while (places_[place] != kNone && kinds_[places_[place]].mass != mass) place = (place + 1) % kPlaces;
    if (places_[place] == kNone) {
      if (count_ == kMost) return kMost;
      kinds_[count_] = {mass, 0, 0};
      places_[place] = static_cast<uint8_t>(count_++);
    }
    return places_[place];
  }

  Kind& operator[](size_t kind) { return kinds_[kind]; }

  size_t count() const { return count_; }

  // Counts candidates [count] by the numbers of their kinds; others have larger numbers.
  void add_up(const uint32_t* of, size_t count) {
    constexpr size_t kTables = 4;  // equal kinds would wait for each other's addition to one table
    uint32_t tables[kTables][kMost + 1] = {};
    for (size_t i = 0; i < count; ++i) ++tables[i % kTables][std::min<uint32_t>(of[i], kMost)];
    for (size_t kind = 0; kind < count_; ++kind)
      for (const auto& table : tables) kinds_[kind].count += table[kind];
  }

 private:
  static constexpr size_t kPlaces = 128;
  static constexpr uint8_t kNone = 0xff;

  Kind kinds_[kMost];
  uint8_t places_[kPlaces];
  size_t count_ = 0;
};

// Writes the distances in units.
void measure(const Row& row, double mean, uint32_t* distances) {
  const __m128i middle = _mm_set1_epi32(static_cast<int>(std::lround(mean * kUnit)));
  for (size_t i = 0; i < row.count; i += 4) {
    const __m256d logarithms = log_lanes(_mm_loadu_ps(row.masses + i));
    const __m128i rounded = _mm256_cvtpd_epi32(_mm256_mul_pd(logarithms, _mm256_set1_pd(kUnit)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(distances + i), _mm_abs_epi32(_mm_sub_epi32(rounded, middle)));
  }
}

// Writes the kinds of all candidates. Returns false if there are too many.
bool sort_all(const Row& row, Kinds& kinds, uint32_t* of) {
  for (size_t i = 0; i < row.count; ++i)
    if ((of[i] = kinds.of(row.masses[i])) == Kinds::kMost) return false;
  return true;
}

// Writes the kinds of candidates near the border, and adds the masses of those before it to the goal.
bool sort_near(NearestMemory& memory, SelectionMemory& selection, const Row& row, double mean, Goal& goal, Kinds& kinds,
               uint32_t* of) {
  uint32_t* const distances = memory.distances.take(row.count);
  measure(row, mean, distances);
  const uint32_t border = rank_at(selection, {distances, row.masses, row.count}, goal);
  const uint32_t least = border - std::min(border, kRounding), most = border + kRounding;
  for (size_t i = 0; i < row.count; ++i) {
    if (distances[i] < least) {
      of[i] = Kinds::kBefore;
      goal.before += row.masses[i];
    } else if (distances[i] > most) {
      of[i] = Kinds::kBehind;
    } else if ((of[i] = kinds.of(row.masses[i])) == Kinds::kMost) {
      return false;
    }
  }
  return true;
}

// Counts the candidates of one probability whose sum, one by one, reaches `share`.
std::optional<size_t> taken_one_by_one(double probability, size_t count, double share) {
  double sum = 0;
  for (size_t i = 1; i <= count; ++i)
    if ((sum += probability) >= share) return i;
  return std::nullopt;
}

}  // namespace

bool keep_nearest(NearestMemory& memory, SelectionMemory& selection, const Row& row, double mean, Goal goal,
                  double total, double share, uint8_t* kept) {
  if (row.count == 0) return false;
  Kinds kinds;
  uint32_t* const of = memory.kinds.take(row.count);
  const bool is_same = row.is_same();
  if (is_same) {
    kinds[kinds.of(row.masses[0])].count = static_cast<double>(row.count);
  } else {
    if (!sort_all(row, kinds, of)) {
      kinds = Kinds();
      if (!sort_near(memory, selection, row, mean, goal, kinds, of)) return false;
    }
    kinds.add_up(of, row.count);
  }
  size_t order[Kinds::kMost];
  for (size_t kind = 0; kind < kinds.count(); ++kind) {
    kinds[kind].distance = std::fabs(std::log(static_cast<double>(kinds[kind].mass)) - mean);
    order[kind] = kind;
  }
  std::sort(order, order + kinds.count(), [&](size_t a, size_t b) { return kinds[a].distance < kinds[b].distance; });
  size_t place = 0;
  for (; place < kinds.count(); ++place) {
    const Kind& kind = kinds[order[place]];
    const double mass = kind.count * kind.mass;
    if (goal.before + mass >= goal.mass - goal.slack) break;
    goal.before += mass;
  }
  if (place == kinds.count()) return false;
  const Kind& last = kinds[order[place]];
  for (const size_t next : {place - 1, place + 1})  // -1 is above any count
    if (next < kinds.count() && std::fabs(kinds[order[next]].distance - last.distance) <= kSame) return false;
  auto count = taken(last.mass, goal);
  if (!count && goal.before == 0 && share > 0) count = taken_one_by_one(last.mass / total, row.count, share);
  if (!count || static_cast<double>(*count) > last.count) return false;
  if (is_same) {
    std::fill_n(kept, *count, true);
    std::fill(kept + *count, kept + row.count, false);
    return true;
  }

  Row same{memory.ranks.take(row.count), memory.masses.take(row.count), 0};
  for (size_t i = 0; i < row.count; ++i) {
    same.ranks[same.count] = row.ranks[i];
    same.count += of[i] == order[place];
  }
  std::fill_n(same.masses, same.count, 1.0f);
  const auto first = reach(selection, same, {static_cast<double>(*count), 0, 0});
  if (!first) return false;
  // By kind, then for all before and all behind the border: up to which rank candidates are kept.
  First until[Kinds::kMost + 2] = {};
  for (size_t i = 0; i < place; ++i) until[order[i]] = {0xffffffff, 0};
  until[order[place]] = *first;
  until[Kinds::kBefore] = {0xffffffff, 0};
  for (size_t i = 0; i < row.count; ++i) kept[i] = until[of[i]].has_next(row.ranks[i]);
  return true;
}

}  // namespace infrs
