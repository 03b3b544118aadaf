// Zones of the picture: who stands in which, and for how long. The rules are those of `postprocess/zones.py`.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
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

  static constexpr std::size_t most = 100, most_corners = 1000, longest_name = 100;  // zones; of one: corners, letters

  // Throws InputError: no name of printable characters, too few or too many corners, a corner outside the picture, or
  // no area.
  void check() const {
    const auto is_control = [](unsigned char byte) { return byte < 0x20 || byte == 0x7f; };
    const auto begins_letter = [](unsigned char byte) { return (byte & 0xc0) != 0x80; };  // in UTF-8
    if (name.find_first_not_of(' ') == std::string::npos || std::any_of(name.begin(), name.end(), is_control) ||
        static_cast<std::size_t>(std::count_if(name.begin(), name.end(), begins_letter)) > longest_name)
      throw InputError(detail::text("the name of a zone: expected 1 to ", longest_name, " printable characters"));
    if (corners.size() < 3 || corners.size() > most_corners)
      throw InputError(
          detail::text("zone ", name, " has ", corners.size(), " corners, expected 3 to ", most_corners));
    for (const auto& each : corners)
      if (!(each[0] >= 0 && each[0] <= 1 && each[1] >= 0 && each[1] <= 1))
        throw InputError("zone " + name + " has a corner outside the picture: expected fractions of it, 0 to 1");
    if (is_flat()) throw InputError("zone " + name + " has no area: its corners lie on a line");
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

 private:
  // Whether all corners lie on one line.
  bool is_flat() const {
    std::array<double, 2> far{};
    for (const auto& each : corners)
      if (const double x = each[0] - corners[0][0], y = each[1] - corners[0][1];
          std::abs(x) + std::abs(y) > std::abs(far[0]) + std::abs(far[1]))
        far = {x, y};
    return std::all_of(corners.begin(), corners.end(), [&](const std::array<double, 2>& each) {
      return (each[0] - corners[0][0]) * far[1] == far[0] * (each[1] - corners[0][1]);
    });
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
  // A stay goes on over absences of up to `patience_s` seconds, which do not count. Throws InputError: see
  // `Zone::check`; two zones of one name, too many, or a patience that is none.
  explicit Zones(std::vector<Zone> zones, ZoneAnchor anchor = ZoneAnchor::bottom, double patience_s = 2)
      : zones_(std::move(zones)), anchor_(anchor), patience_s_(patience_s) {
    std::set<std::string> names;
    for (const Zone& each : zones_) each.check(), names.insert(each.name);
    if (zones_.size() > Zone::most || names.size() < zones_.size())
      throw InputError(detail::text(zones_.size(), " zones: expected up to ", Zone::most, ", of different names"));
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
