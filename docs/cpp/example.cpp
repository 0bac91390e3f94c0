// What a network is given of a picture: a binary PPM or PGM, of 8 or 16 bits, made ready as the manifest says.
//
//     c++ -std=c++17 -O2 -ffp-contract=off example.cpp -o example
//     ./example photo.ppm out.bin size=224,224 resize=256 mean=0.485,0.456,0.406 std=0.229,0.224,0.225
//
// The settings are those of the manifest's "preprocess"; out.bin has the tensor's numbers as they lie in memory:
// float32, or uint8 where the input is.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

#include "edgecnn_pixels.hpp"

static std::vector<double> numbers(const std::string& text) {
    std::vector<double> found;
    std::istringstream stream(text);
    for (std::string one; std::getline(stream, one, ',');) found.push_back(std::stod(one));
    return found;
}

static void set(edgecnn::Settings& how, const std::string& key, const std::string& value) try {
    if (key == "interpolation") how.interpolation = value;
    else if (key == "input") how.input = value;
    else if (key == "mean") how.mean = numbers(value);
    else if (key == "std") how.deviation = numbers(value);
    else if (key == "size") how.height = int(numbers(value).at(0)), how.width = int(numbers(value).at(1));
    else if (key == "channels") how.channels = std::stoi(value);
    else if (key == "resize") how.resize = std::stoi(value);
    else if (key == "letterbox") how.letterbox = std::stoi(value);
    else if (key == "white") how.white = std::stoi(value);
    else if (key == "corner") how.corner = value == "true";
    else if (key == "bgr") how.bgr = value == "true";
    else if (key == "antialias") how.antialias = value == "true";
    else throw std::runtime_error(key + ": unknown setting");
} catch (const std::logic_error&) {  // of the numbers in it
    throw std::runtime_error(key + "=" + value + ": is not understood");
}

template <class T>
static std::vector<T> pixels_in(std::istream& file, std::size_t count) {
    std::vector<T> made(count);
    for (T& value : made) {
        int read = file.get();
        if (sizeof(T) == 2) read = read << 8 | file.get();  // the larger byte comes first
        value = T(read);
    }
    if (!file) throw std::runtime_error("the picture is cut off");
    return made;
}

template <class T>
static void write(std::ostream& out, const std::vector<T>& values) {
    out.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size() * sizeof(T)));
    if (!out.flush()) throw std::runtime_error("the tensor cannot be written");
}

template <class T>
static void answer(std::ostream& out, const edgecnn::Settings& how, const std::vector<T>& data, int h, int w, int c) {
    const edgecnn::View<T> picture{data.data(), h, w, c};
    if (how.floating()) write(out, edgecnn::tensor(how, picture));
    else write(out, edgecnn::pixels(how, picture));
}

int main(int count, char** words) try {
    if (count < 4) throw std::runtime_error("give a picture, a file to write, and settings");
    edgecnn::Settings how;
    for (int i = 3; i < count; ++i) {
        const std::string word = words[i];
        set(how, word.substr(0, word.find('=')), word.substr(word.find('=') + 1));
    }
    std::ifstream file(words[1], std::ios::binary);
    std::ofstream out(words[2], std::ios::binary);
    std::string magic;
    int width = 0, height = 0, most = 0;
    if (!(file >> magic >> width >> height >> most) || (magic != "P5" && magic != "P6") || width < 1 || height < 1) {
        throw std::runtime_error(std::string(words[1]) + ": is no binary PGM or PPM");
    }
    if (most != 255 && most != 65535 && most != how.white) {
        throw std::runtime_error(std::string(words[1]) + ": its white is " + std::to_string(most) + "; say white=");
    }
    file.get();
    const int channels = magic == "P6" ? 3 : 1;
    const std::size_t size = std::size_t(width) * height * channels;
    if (most > 255) answer(out, how, pixels_in<std::uint16_t>(file, size), height, width, channels);
    else answer(out, how, pixels_in<std::uint8_t>(file, size), height, width, channels);
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
}
