#include "draws.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "buckets.h"
#include "nearest.h"

namespace infrs {
namespace {

struct Workspace {
  BucketMemory buckets;
  SelectionMemory selection;
  NearestMemory nearest;
  Scratch<uint32_t> ranks;
  Scratch<float> masses;
  Scratch<uint8_t> kept;
};

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

// Keeps the first of members by rank.
void keep(Members& members, First first) {
  if (members.row().is_same())
    members.count = first.taken;
  else
    members.keep([&](size_t i) { return first.has_next(members.ranks[i]); });
}

// Finds the first bucket that reaches a goal by what `part` returns, and adds that of the buckets before to the goal;
// the last bucket with candidates if none does.
template <typename Part>
size_t find(const Buckets& buckets, Goal& goal, Part part) {
  size_t last = 0;
  double before_last = goal.before;
  for (size_t i = 0; i < Buckets::kCount; ++i) {
    if (part(buckets[i]) == 0) continue;
    last = i, before_last = goal.before;
    if (goal.before + part(buckets[i]) >= goal.mass) return i;
    goal.before += part(buckets[i]);
  }
  goal.before = before_last;
  return last;
}

// One row with its filters. Those that return false cannot tell what they keep, because of rounding.
class Draw {
 public:
  Draw(Workspace& workspace, Buckets& buckets, size_t count)
      : workspace_(workspace), buckets_(buckets), count_(count) {}

  bool top_k(size_t count);
  bool typical(double typical_p);
  bool top_p(double top_p);
  void min_p(float min_p);
  int64_t draw(double uniform);

 private:
  bool cut(size_t bucket, const Row& row, const Goal& goal);
  double border(double mean, double mass, bool farthest) const;
  double distance(size_t bucket, double mean, bool farthest) const;

  // Returns by how much sums may differ by the order of their additions, relative to the sum.
  double relative() const { return 4 * static_cast<double>(count_) * kEpsilon; }

  bool is_exact() const;

  Workspace& workspace_;
  Buckets& buckets_;
  size_t count_;
};

// Returns whether no sum is rounded: sums of up to 2**19 numbers of 24 bits from 2**-11 to 1 fit 53 bits.
bool Draw::is_exact() const {
  size_t last = Buckets::kCount - 1;
  while (last && buckets_[last].state == Buckets::State::kEmpty) --last;
  return count_ <= size_t{1} << 19 && buckets_.lowest(last) > -11 * std::log(2.0);
}

// Keeps the first members of an open bucket that reach the goal, by `row`, and removes the buckets after it.
bool Draw::cut(size_t bucket, const Row& row, const Goal& goal) {
  const auto first = reach(workspace_.selection, row, goal);
  if (!first) return false;
  for (size_t i = buckets_[bucket].last + size_t{1}; i < Buckets::kCount; ++i) buckets_.empty(i);
  keep(buckets_.members(bucket), *first);
  buckets_.update(bucket);
  return true;
}

bool Draw::top_k(size_t count) {
  double all = 0;
  for (size_t i = 0; i < Buckets::kCount; ++i) all += buckets_[i].count;
  if (static_cast<double>(count) >= all) return true;
  Goal goal{static_cast<double>(count), 0, 0};
  const size_t bucket = find(buckets_, goal, [](const auto& each) { return each.count; });
  Row row = buckets_.open(bucket, bucket).row();
  row.masses = workspace_.masses.take(row.count);
  std::fill_n(row.masses, row.count, 1.0f);
  return cut(bucket, row, goal);
}

// Returns a bound of the distance of a bucket's logarithms from their mean.
double Draw::distance(size_t bucket, double mean, bool farthest) const {
  const double above = buckets_.highest(bucket) - mean, below = mean - buckets_.lowest(bucket);
  return farthest ? std::max(above, below) : std::max({0.0, -above, -below});
}

// Returns the distance at which the nearest buckets reach a mass.
double Draw::border(double mean, double mass, bool farthest) const {
  size_t left = 0;
  while (left < Buckets::kCount && buckets_.lowest(left) > mean) ++left;
  for (size_t right = left; left > 0 || right < Buckets::kCount;) {
    const bool is_left = right == Buckets::kCount ||
                         (left > 0 && distance(left - 1, mean, farthest) <= distance(right, mean, farthest));
    const size_t next = is_left ? --left : right++;
    mass -= buckets_[next].mass;
    if (mass <= 0) return distance(next, mean, farthest);
  }
  return std::numeric_limits<double>::infinity();
}

// Keeps the locally typical candidates: those with a logarithm nearest to the mean of all, weighted, then by rank.
bool Draw::typical(double typical_p) {
  double logarithms = 0, before = 0;
  for (size_t i = 0; i < Buckets::kCount; ++i) logarithms += buckets_[i].logarithms;
  buckets_.forget_logarithms();
  const double total = buckets_.total(), mean = logarithms / total;
  const bool is_exact = this->is_exact();
  const Goal goal{typical_p * total, 0, relative() * total};
  const double least = border(mean, goal.mass - goal.slack, false), most = border(mean, goal.mass + goal.slack, true);
  std::pair<size_t, size_t> runs[2];  // of buckets on both sides in which the border is
  size_t num_runs = 0;
  bool is_new = true;
  for (size_t i = 0; i < Buckets::kCount; ++i) {
    if (buckets_[i].state == Buckets::State::kEmpty) continue;
    if (distance(i, mean, true) < least) {
      before += buckets_[i].mass;
      is_new = true;
    } else if (distance(i, mean, false) > most) {
      buckets_.empty(i);
    } else if (is_new) {
      if (num_runs == std::size(runs)) return false;
      runs[num_runs++] = {i, i};
      is_new = false;
    } else {
      runs[num_runs - 1].second = i;
    }
  }
  Row near{nullptr, nullptr, 0};
  for (size_t run = 0; run < num_runs; ++run) near.count += buckets_.open(runs[run].first, runs[run].second).count;
  if (num_runs == 1) {
    near = buckets_.members(runs[0].first).row();
  } else {
    near.ranks = workspace_.ranks.take(near.count);
    near.masses = workspace_.masses.take(near.count);
    size_t end = 0;
    for (size_t run = 0; run < num_runs; ++run) {
      const Row row = buckets_.members(runs[run].first).row();
      std::copy_n(row.ranks, row.count, near.ranks + end);
      std::copy_n(row.masses, row.count, near.masses + end);
      end += row.count;
    }
  }
  uint8_t* kept = workspace_.kept.take(near.count);
  if (!keep_nearest(workspace_.nearest, workspace_.selection, near, mean, {goal.mass, before, goal.slack}, total,
                    is_exact ? typical_p : 0, kept))
    return false;
  for (size_t run = 0; run < num_runs; ++run) {
    Members& members = buckets_.members(runs[run].first);
    const size_t count = members.count;
    if (members.row().is_same())
      members.count = static_cast<size_t>(std::count(kept, kept + count, true));
    else
      members.keep([&](size_t i) { return kept[i]; });
    kept += count;
    buckets_.update(runs[run].first);
  }
  return true;
}

bool Draw::top_p(double top_p) {
  const double total = buckets_.total();
  Goal goal{top_p * total, 0, (is_exact() ? 0 : relative()) * total};
  const size_t bucket = find(buckets_, goal, [](const auto& each) { return each.mass; });
  return cut(bucket, buckets_.open(bucket, bucket).row(), goal);
}

void Draw::min_p(float min_p) {
  size_t first = 0;
  while (buckets_[first].state == Buckets::State::kEmpty) ++first;
  size_t last = first;  // of those in which the largest weight may be: exp of neighbours is not always in their order
  while (last + 1 < Buckets::kCount && buckets_.highest(last + 1) >= buckets_.lowest(first)) ++last;
  const Members& largest = buckets_.open(first, last);
  const float least = min_p * *std::max_element(largest.masses, largest.masses + largest.count);
  const double logarithm = std::log(static_cast<double>(least));
  size_t from = Buckets::kCount, to = 0;
  for (size_t i = 0; i < Buckets::kCount; ++i) {
    if (buckets_[i].state == Buckets::State::kEmpty || buckets_.lowest(i) > logarithm) continue;
    if (buckets_.highest(i) < logarithm)
      buckets_.empty(i);
    else
      from = std::min(from, i), to = i;
  }
  if (from > to) return;
  Members& near = buckets_.open(from, to);
  if (std::all_of(near.masses, near.masses + near.count, [&](float mass) { return mass >= least; })) return;
  near.keep([&](size_t i) { return near.masses[i] >= least; });
  buckets_.update(from);
}

int64_t Draw::draw(double uniform) {
  const double total = buckets_.total();
  Goal goal{uniform * total, 0, relative() * total};
  const size_t bucket = find(buckets_, goal, [](const auto& each) { return each.mass; });
  const Members& members = buckets_.open(bucket, bucket);
  const auto first = reach(workspace_.selection, members.row(), goal);
  if (!first) return kUndecided;
  size_t i = members.row().is_same() ? first->taken - 1 : 0;
  for (size_t left = i ? 1 : first->taken; members.ranks[i] != first->rank || --left;) ++i;
  return members.ids[i];
}

}  // namespace

int64_t draw(const float* logits, const float* weights, size_t count, const Filters& filters, double temperature,
             double uniform) {
  static thread_local Workspace workspace;
  Buckets buckets(workspace.buckets, logits, weights, count, temperature, filters.top_k > 0, filters.typical_p < 1);
  if (!(buckets.total() > 0)) return kUndecided;
  Draw row(workspace, buckets, count);
  if (filters.top_k && !row.top_k(filters.top_k)) return kUndecided;
  if (filters.typical_p < 1 && !row.typical(filters.typical_p)) return kUndecided;
  if (filters.top_p < 1 && !row.top_p(filters.top_p)) return kUndecided;
  if (filters.min_p > 0) row.min_p(filters.min_p);
  return row.draw(uniform);
}

}  // namespace infrs
