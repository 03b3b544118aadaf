// Zones of the picture: who stands in which, and for how long. The rules are those of `postprocess/zones.py`.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "yowo/boxes.hpp"
#include "yowo/errors.hpp"

namespace yowo {

// A polygon of the picture; corners are (x, y) in shares of its width and height.
struct Zone {
  std::string name;
  std::vector<std::array<double, 2>> corners;

  // Throws InputError: no name, too few corners, or a corner outside the picture.
  void check() const {
    if (name.empty() || corners.size() < 3) throw InputError("a zone needs a name and three corners or more");
    for (const auto& each : corners)
      if (!(each[0] >= 0 && each[0] <= 1 && each[1] >= 0 && each[1] <= 1))
        throw InputError("zone " + name + " has a corner outside the picture: expected shares, 0 to 1");
  }

  // Whether a point lies inside, by the even-odd rule; of two zones with a common side it lies in one.
  bool holds(double x, double y) const {
    bool inside = false;
    std::array<double, 2> before = corners.back();
    for (const auto& corner : corners) {
      if ((corner[1] > y) != (before[1] > y)) {
        const auto& upper = before[1] < corner[1] ? before : corner;
        const auto& lower = before[1] < corner[1] ? corner : before;
        inside ^= (lower[0] - upper[0]) * (y - upper[1]) > (x - upper[0]) * (lower[1] - upper[1]);
      }
      before = corner;
    }
    return inside;
  }
};

// What is known of one person at a frame; zones by their place in the list.
struct Presence {
  std::vector<std::size_t> zones;    // the person is in
  std::vector<std::size_t> entered;  // the person has been in, by the first entry
  std::vector<double> dwell;         // seconds in each of `zones`, of this stay
};

// What in a box must be in a zone: the middle of its lower edge, or of the box.
enum class ZoneAnchor { bottom, center };

// Results in, the zones of each person out.
class Zones {
 public:
  // A stay goes on over absences of up to `patience_s` seconds, which do not count.
  explicit Zones(std::vector<Zone> zones, ZoneAnchor anchor = ZoneAnchor::bottom, double patience_s = 2)
      : zones_(std::move(zones)), anchor_(anchor), patience_s_(patience_s) {
    for (const Zone& each : zones_) each.check();
    if (!(patience_s > 0 && std::isfinite(patience_s))) throw InputError("the patience of zones must be above 0 s");
  }

  // The people of the next frame, which is so many pixels large and so many seconds after the video began.
  std::map<std::int64_t, Presence> push(const Detections& found, int width, int height, double seconds) {
    for (auto each = people_.begin(); each != people_.end();)
      each = seconds - each->second.seen > patience_s_ ? people_.erase(each) : std::next(each);
    std::map<std::int64_t, Presence> present;
    for (std::size_t row = 0; row < found.tracker_id.size(); ++row) {
      const Box& box = found.xyxy[row];
      const double low = box.y2, high = box.y1;
      const double x = (static_cast<double>(box.x1) + static_cast<double>(box.x2)) / 2 / width;
      const double y = (anchor_ == ZoneAnchor::bottom ? low : (high + low) / 2) / height;
      Person& person = people_[found.tracker_id[row]];
      Presence& said = present[found.tracker_id[row]];
      for (std::size_t zone = 0; zone < zones_.size(); ++zone) {
        if (!zones_[zone].holds(std::min(x, inside), std::min(y, inside))) continue;
        said.zones.push_back(zone), said.dwell.push_back(stay(person, zone, seconds));
      }
      person.seen = seconds, said.entered = person.entered;
    }
    before_ = seconds;
    return present;
  }

  void reset() { people_.clear(), before_ = never; }

 private:
  // Feet that are cut off by the lower edge of the picture are in a zone that reaches to it.
  static constexpr double inside = 1 - 1.0 / (1 << 20);
  static constexpr double never = -std::numeric_limits<double>::infinity();
  struct Stay {
    double last = never, seconds = 0;
  };
  struct Person {
    double seen = never;
    std::map<std::size_t, Stay> stays;
    std::vector<std::size_t> entered;
  };

  double stay(Person& person, std::size_t zone, double now) {
    Stay& found = person.stays[zone];
    if (now - found.last > patience_s_) {
      found = Stay{now, 0};
      if (std::find(person.entered.begin(), person.entered.end(), zone) == person.entered.end())
        person.entered.push_back(zone);
    }
    if (found.last == before_) found.seconds += now - before_;
    found.last = now;
    return found.seconds;
  }

  std::vector<Zone> zones_;
  ZoneAnchor anchor_;
  double patience_s_, before_ = never;
  std::map<std::int64_t, Person> people_;
};

}  // namespace yowo
