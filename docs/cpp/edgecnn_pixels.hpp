// From a picture to the input of a network in an edgecnn bundle, and from its answers back to the picture.
//
//     uint8 or uint16 picture -> grey or RGB -> resized, cut or bordered -> (x / 255 - mean) / std -> float32 tensor
//     boxes and masks of the input -> boxes and masks of the picture
//
// One header, C++17, the standard library alone. The numbers are those of edgecnn's own runtimes/imaging, to the bit,
// where the compiler rounds every float operation by itself: -ffp-contract=off, and never -ffast-math.
// What each step is, and where the settings come from: docs/cpp.md. Test: tests/test_cpp_pixels.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace edgecnn {

// What the manifest has under "preprocess", with the values that count where it says nothing.
struct Settings {
    int height = 0, width = 0;               // "size": [height, width]
    int channels = 3;                        // 1 or 3
    std::vector<double> mean{0.0};           // one, or one for each channel
    std::vector<double> deviation{1.0};      // "std", the same
    int resize = 0;                          // 0: null
    int letterbox = -1;                      // -1: null
    bool corner = false;
    bool bgr = false;
    bool antialias = true;
    std::string interpolation = "bilinear";  // "bicubic", "nearest"
    std::string input = "float32";           // "float32-nhwc", "uint8", "uint8-nhwc"
    int white = 65535;                       // null: 65535; of pictures of 16 bits

    bool channels_last() const { return input == "float32-nhwc" || input == "uint8-nhwc"; }
    bool floating() const { return input == "float32" || input == "float32-nhwc"; }
};

// A picture in memory: `channels` numbers a pixel, 1 (grey), 3 (RGB) or 4 (with transparency, which is dropped).
template <class T>
struct View {
    const T* data;
    int height, width, channels;
    std::ptrdiff_t stride = 0;  // numbers from one row to the next; 0: there is nothing between them
    bool blue_first = false;    // BGR, as OpenCV has it
};

// A picture resized to tall x wide lies so that its row `top` and column `left` are the input's first; a border, of
// which they count the rows and columns, makes them negative.
struct Placement {
    int height, width;  // of the picture
    int tall, wide, top, left;
};

struct Box { float x1, y1, x2, y2; };

constexpr std::uint8_t unseen = 255;  // in a mask of the picture: the network did not look there

namespace detail {

constexpr int precision_bits = 22, fixed_bits = 11, most_side = 65536;

inline void require(bool holds, const std::string& otherwise) {
    if (!holds) throw std::invalid_argument("edgecnn: " + otherwise);
}

inline void check(const Settings& how) {
    const auto fits = [&](std::size_t count) { return count == 1 || count == std::size_t(how.channels); };
    require(how.height > 0 && how.width > 0, "size: height and width of the input are needed");
    require(how.channels == 1 || how.channels == 3, "channels: 1 and 3 are known");
    require(fits(how.mean.size()) && fits(how.deviation.size()), "mean and std: 1 number, or 1 for each channel");
    require(how.letterbox < 0 || how.resize == 0, "letterbox and resize: one of them");
    require(how.resize == 0 || how.resize >= std::max(how.height, how.width), "resize: below the size of the input");
    require(how.interpolation == "bilinear" || how.interpolation == "bicubic" || how.interpolation == "nearest",
            "interpolation: " + how.interpolation + " is unknown");
    require(how.floating() || how.channels_last() || how.input == "uint8", "input: " + how.input + " is unknown");
}

// ------------------------------------------------------------------------------------------------------------- colour
inline std::uint8_t level(std::uint8_t value, int) { return value; }

inline float level(std::uint16_t value, int white) {
    return float(std::min(int(value), white)) * 255.0f / float(white);
}

inline std::uint8_t grey(std::uint8_t red, std::uint8_t green, std::uint8_t blue) {
    return std::uint8_t((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
}

inline float grey(float red, float green, float blue) {
    return red * float(19595 / 65536.0) + green * float(38470 / 65536.0) + blue * float(7471 / 65536.0);
}

template <class T>
using LevelOf = decltype(level(T(), 0));

// Row `y` of a picture as levels of 0..255 in the network's channels: of 8 bits uint8, of 16 float.
template <class T>
std::vector<LevelOf<T>> line_of(const Settings& how, const View<T>& picture, int y) {
    const std::ptrdiff_t stride = picture.stride ? picture.stride : std::ptrdiff_t(picture.width) * picture.channels;
    const int red = picture.blue_first ? 2 : 0, first = how.bgr ? 2 - red : red;
    std::vector<LevelOf<T>> made(std::size_t(picture.width) * how.channels);
    const T* from = picture.data + y * stride;
    for (auto to = made.begin(); to != made.end(); to += how.channels, from += picture.channels) {
        const auto at = [&](int c) { return level(from[c], how.white); };
        if (picture.channels == 1) {
            std::fill_n(to, how.channels, at(0));
        } else if (how.channels == 1) {
            to[0] = grey(at(red), at(1), at(2 - red));
        } else {
            to[0] = at(first), to[1] = at(1), to[2] = at(2 - first);
        }
    }
    return made;
}

// ------------------------------------------------------------------------------------------------------------- resize
// `count` outputs along an axis: of each the inputs that it is made of, and their weights in fixed point.
struct Axis {
    int count, taps;
    std::vector<int> places;
    std::vector<std::int32_t> weights;
};

inline double cubic(double distance, double a) {
    if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
    return distance < 2 ? ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a : 0.0;
}

// Outputs `start` and on of `inputs` numbers resized to `outputs`.
inline Axis axis_of(int inputs, int outputs, int start, int count, const Settings& how, int bits) {
    const bool copied = how.interpolation == "nearest", sharp = how.interpolation == "bicubic";
    const bool smooth = how.antialias && !copied;
    const double scale = smooth ? double(inputs) / outputs : 1 / (double(outputs) / inputs);
    const double reach = smooth ? std::max(scale, 1.0) : 1.0, support = (sharp ? 2.0 : 1.0) * reach;
    Axis made{count, copied ? 1 : int(std::ceil(support)) * 2 + smooth, {}, {}};
    std::vector<double> shares(made.taps, 1.0);
    for (int i = start; i < start + count; ++i) {
        double centre = (i + 0.5) * scale, sum = 0;
        if (bits == fixed_bits) centre = double(float(centre - 0.5)) + 0.5;
        const double first = copied ? std::floor(i * scale) : std::floor(centre - support + 0.5);
        for (int tap = 0; tap < made.taps; ++tap) {
            const double place = first + tap, distance = std::abs(place - centre + 0.5) / reach;
            const bool outside = place < 0 || place > inputs - 1;
            if (!copied) shares[tap] = sharp ? cubic(distance, smooth ? -0.5 : -0.75) : std::max(0.0, 1.0 - distance);
            if (smooth && outside) shares[tap] = 0;  // without antialias the edge goes on beyond the edge
            sum += shares[tap];
            made.places.push_back(int(std::clamp(place, 0.0, inputs - 1.0)));
        }
        for (double share : shares) {
            const double whole = (smooth ? share / sum : share) * (1 << bits);
            made.weights.push_back(
                std::int32_t(smooth ? std::trunc(whole + std::copysign(0.5, whole)) : std::nearbyint(whole)));
        }
    }
    return made;
}

// The rules by which sums of weighted pixels become rows, and sums of weighted rows pixels.
struct Once {  // of uint8: rounded once, a half to the even one
    using Row = std::int32_t;
    using Total = std::int64_t;
    static constexpr int bits = precision_bits;
    static Row share(std::int32_t weight) { return weight; }
    static Row row(Row sum) { return sum; }
    static Total part(Total product) { return product; }
    static std::uint8_t pixel(Total sum) {  // of less than 53 bits, so that all is exact
        return std::uint8_t(std::clamp(std::nearbyint(std::ldexp(double(sum), -2 * bits)), 0.0, 255.0));
    }
};

struct Pillow : Once {  // antialiased: rounded after either pass
    using Total = std::int32_t;
    static Row row(Row sum) { return std::clamp((sum + (1 << (bits - 1))) >> bits, 0, 255); }
    static Total part(Total product) { return product; }
    static std::uint8_t pixel(Total sum) { return std::uint8_t(row(sum)); }
};

struct Linear : Once {  // OpenCV's INTER_LINEAR
    using Total = std::int32_t;
    static constexpr int bits = fixed_bits;
    static Row row(Row sum) { return sum >> 4; }
    static Total part(Total product) { return product >> 16; }
    static std::uint8_t pixel(Total sum) { return std::uint8_t((sum + 2) >> 2); }
};

struct Floats {  // levels of 16 bits: nothing is rounded to whole numbers
    using Row = float;
    using Total = float;
    static constexpr int bits = precision_bits;
    static Row share(std::int32_t weight) { return Row(weight / double(1 << bits)); }
    static Row row(Row sum) { return sum; }
    static Total part(Total product) { return product; }
    static float pixel(Total sum) { return std::clamp(sum, 0.0f, 255.0f); }
};

template <class Rule, int channels, class Level>
std::vector<typename Rule::Row> row_of(const std::vector<Level>& line, const Axis& across) {
    std::vector<typename Rule::Row> made(std::size_t(across.count) * channels);
    for (int x = 0; x < across.count; ++x) {
        typename Rule::Row sums[channels] = {};
        for (int tap = x * across.taps; tap < (x + 1) * across.taps; ++tap) {
            const Level* from = &line[std::size_t(across.places[tap]) * channels];
            for (int c = 0; c < channels; ++c) sums[c] += Rule::share(across.weights[tap]) * from[c];
        }
        std::transform(sums, sums + channels, &made[std::size_t(x) * channels], Rule::row);
    }
    return made;
}

template <class Rule, class T>
std::vector<LevelOf<T>> sampled(const Settings& how, const View<T>& picture, const Axis& down, const Axis& across) {
    std::vector<std::vector<typename Rule::Row>> rows(picture.height);  // made where they are needed
    std::vector<typename Rule::Total> sums(std::size_t(across.count) * how.channels);
    std::vector<LevelOf<T>> made;
    for (int y = 0; y < down.count; ++y) {
        std::fill(sums.begin(), sums.end(), typename Rule::Total(0));
        for (int tap = y * down.taps; tap < (y + 1) * down.taps; ++tap) {
            if (down.weights[tap] == 0) continue;
            auto& row = rows[down.places[tap]];
            if (row.empty()) {
                const auto line = line_of(how, picture, down.places[tap]);
                row = how.channels == 1 ? row_of<Rule, 1>(line, across) : row_of<Rule, 3>(line, across);
            }
            const typename Rule::Total share = Rule::share(down.weights[tap]);
            for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += Rule::part(share * row[i]);
        }
        std::transform(sums.begin(), sums.end(), std::back_inserter(made), Rule::pixel);
    }
    return made;
}

// The part of the resized picture that is in the input, `rows` x `columns`.
template <class T>
std::vector<LevelOf<T>> resized(const Settings& how, const View<T>& picture, const Placement& at, int rows, int columns)
{
    require(std::max(at.tall, at.wide) <= most_side, "picture: is too long and thin, crop it");
    const auto by = [&](auto rule) {
        using Rule = decltype(rule);
        return sampled<Rule>(how, picture,
                             axis_of(picture.height, at.tall, std::max(at.top, 0), rows, how, Rule::bits),
                             axis_of(picture.width, at.wide, std::max(at.left, 0), columns, how, Rule::bits));
    };
    if constexpr (std::is_same_v<T, std::uint16_t>) return by(Floats());
    else if (how.antialias) return by(Pillow());
    else return how.interpolation == "bilinear" ? by(Linear()) : by(Once());
}

// `values` (H, W, C), each made what `made_of` its channel says, in the order that the network wants.
template <class To, class From, class Make>
std::vector<To> arranged(const Settings& how, const std::vector<From>& values, Make made_of) {
    const std::size_t channels = how.channels, plane = values.size() / channels;
    const std::size_t step = how.channels_last() ? channels : 1;
    std::vector<To> made(values.size());
    for (std::size_t c = 0; c < channels; ++c) {
        const auto make = made_of(c);
        To* to = made.data() + (how.channels_last() ? c : c * plane);
        for (std::size_t i = 0; i < plane; ++i) to[i * step] = make(values[i * channels + c]);
    }
    return made;
}

}  // namespace detail

// --------------------------------------------------------------------------------------------------------------- there
// Where a picture of `height` x `width` comes to lie.
inline Placement placement(const Settings& how, int height, int width) {
    Placement at{height, width, how.height, how.width, 0, 0};
    if (how.letterbox >= 0) {
        const double scale = std::min(how.height / double(height), how.width / double(width));
        at.tall = std::min(std::max(int(std::nearbyint(height * scale)), 1), how.height);
        at.wide = std::min(std::max(int(std::nearbyint(width * scale)), 1), how.width);
        at.top = how.corner ? 0 : -((how.height - at.tall) / 2);
        at.left = how.corner ? 0 : -((how.width - at.wide) / 2);
    } else if (how.resize > 0) {
        const double target = how.resize;
        at.tall = height <= width ? how.resize : int(target * height / width);
        at.wide = height <= width ? int(target * width / height) : how.resize;
        at.top = int(std::nearbyint((at.tall - how.height) / 2.0));
        at.left = int(std::nearbyint((at.wide - how.width) / 2.0));
    }
    return at;
}

// The picture as the network sees it, (H, W, C), before it is normalized: uint8, or float levels of 16 bits.
template <class T>
std::vector<detail::LevelOf<T>> seen(const Settings& how, const View<T>& picture) {
    detail::check(how);
    const bool known = picture.channels == 1 || picture.channels == 3 || picture.channels == 4;
    detail::require(known, "picture: 1, 3 or 4 channels");
    detail::require(picture.height > 0 && picture.width > 0 && picture.data, "picture: is empty");
    const Placement at = placement(how, picture.height, picture.width);
    const int rows = std::min(at.tall, how.height), columns = std::min(at.wide, how.width);
    auto made = detail::resized(how, picture, at, rows, columns);
    if (rows == how.height && columns == how.width) return made;
    std::vector<detail::LevelOf<T>> field(std::size_t(how.height) * how.width * how.channels,
                                          detail::LevelOf<T>(how.letterbox));
    const std::size_t numbers = std::size_t(columns) * how.channels;
    for (int y = 0; y < rows; ++y) {
        const std::size_t to = (std::size_t(y - at.top) * how.width - at.left) * how.channels;
        std::copy_n(made.begin() + y * numbers, numbers, field.begin() + to);
    }
    return field;
}

// What a network whose input is float32 is given of one picture: (C, H, W), or (H, W, C).
template <class T>
std::vector<float> tensor(const Settings& how, const View<T>& picture) {
    detail::require(how.floating(), "input: " + how.input + "; ask for pixels()");
    return detail::arranged<float>(how, seen(how, picture), [&](std::size_t c) {
        const float mean = float(how.mean[how.mean.size() > 1 ? c : 0]);
        const float deviation = float(how.deviation[how.deviation.size() > 1 ? c : 0]);
        return [mean, deviation](auto value) { return (float(value) / 255.0f - mean) / deviation; };
    });
}

// What a network whose input is uint8 is given: it normalizes by itself.
template <class T>
std::vector<std::uint8_t> pixels(const Settings& how, const View<T>& picture) {
    detail::require(!how.floating(), "input: " + how.input + "; ask for tensor()");
    return detail::arranged<std::uint8_t>(how, seen(how, picture), [](std::size_t) {
        return [](auto value) { return std::uint8_t(std::nearbyint(value)); };
    });
}

// ----------------------------------------------------------------------------------------------------------- and back
// A box in pixels of the input, in those of the picture, cut at its edge.
inline Box to_picture(const Placement& at, const Box& box) {
    const double across = at.wide / double(at.width), down = at.tall / double(at.height);
    const auto x = [&](float v) { return float(std::clamp((v + double(at.left)) / across, 0.0, double(at.width))); };
    const auto y = [&](float v) { return float(std::clamp((v + double(at.top)) / down, 0.0, double(at.height))); };
    return {x(box.x1), y(box.y1), x(box.x2), y(box.y2)};
}

// The class of each pixel of an answer (classes, height, width), the first one of equals.
inline std::vector<std::uint8_t> classes_of(const float* scores, int classes, int height, int width) {
    const std::size_t plane = std::size_t(height) * width;
    std::vector<std::uint8_t> made(plane, 0);
    for (std::size_t i = plane; i < plane * classes; ++i) {
        const std::size_t pixel = i % plane;
        if (scores[i] > scores[made[pixel] * plane + pixel]) made[pixel] = std::uint8_t(i / plane);
    }
    return made;
}

// A mask (height, width), the input's size, as one of the picture: each pixel has the class in which its centre lies.
inline std::vector<std::uint8_t> to_picture(const Placement& at, const std::uint8_t* mask, int height, int width) {
    std::vector<std::uint8_t> made(std::size_t(at.height) * at.width, unseen);
    for (int y = 0, i = 0; y < at.height; ++y) {
        const int row = int((2LL * y + 1) * at.tall / (2LL * at.height)) - at.top;
        for (int x = 0; x < at.width; ++x, ++i) {
            const int column = int((2LL * x + 1) * at.wide / (2LL * at.width)) - at.left;
            if (row >= 0 && row < height && column >= 0 && column < width) made[i] = mask[row * width + column];
        }
    }
    return made;
}

}  // namespace edgecnn
