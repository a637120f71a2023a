#ifndef CAFFE_UTIL_COMBINED_ANGLE_HPP_
#define CAFFE_UTIL_COMBINED_ANGLE_HPP_

#include <algorithm>
#include <cmath>

#ifndef CAFFE_FACE_BOTH
#ifdef __CUDACC__
#define CAFFE_FACE_BOTH __host__ __device__ __forceinline__
#else
#define CAFFE_FACE_BOTH inline
#endif
#endif

namespace caffe {

/**
 * @brief The label's cosine with three margins, cos(m1 theta + m2) - m3, made once a pass on the host.
 *
 * The score falls with theta all the way: where m1 theta + m2 leaves [0, pi], the cosine takes its place, less what
 * makes it join there without a jump. For m1 = 1 and m2 above 133 degrees or so that is less than ArcFace's m2 sin m2,
 * which is taken up to there (Deng et al. 2019; insightface, `easy_margin` off).
 */
template <typename Dtype>
struct CombinedAngle {
  CombinedAngle(double m1, double m2, double m3) : m1(m1), m2(m2), m3(m3), cosine(std::cos(m2)), sine(std::sin(m2)) {
    const double pi = 3.14159265358979323846;
    const double last = (pi - m2) / m1, first = -m2 / m1;  // theta where the sum leaves [0, pi]
    least = last < pi ? (last > 0 ? std::cos(last) : 2) : -2;
    most = first > 0 ? (first < pi ? std::cos(first) : -2) : 2;
    drop = (last < pi ? std::cos(std::max(last, 0.)) : -1) + 1 + m3;
    if (m1 == 1) {
      drop = std::max<double>(drop, m2 * std::sin(m2) + m3);
    }
    lift = (first > 0 ? std::cos(std::min(first, pi)) : 1) - 1 + m3;
  }

  Dtype m1, m2, m3;
  Dtype cosine, sine;  // of m2
  Dtype least, most;  // a cosine up to the one, or beyond the other, has the sum outside [0, pi]
  Dtype drop, lift;  // what the score is less than the cosine there
};

/**
 * @brief A cosine becomes the score, and `slope` the derivative, of which sin(theta) is at least 1e-3: nearer to 0 a
 *        float's cosine does not tell the angle.
 */
template <typename Dtype>
CAFFE_FACE_BOTH void CosineWithAngle(const CombinedAngle<Dtype>& angle, Dtype* cosine, Dtype* slope) {
  const Dtype c = *cosine;
  if (c <= angle.least || c > angle.most) {
    *cosine = c - (c <= angle.least ? angle.drop : angle.lift);
    *slope = 1;
    return;
  }
  const Dtype square = 1 - c * c;  // rounding may take it below 0
  const Dtype sine = std::sqrt((square > 0 ? square : Dtype(0)) + Dtype(1e-12));
  const Dtype divisor = sine > Dtype(1e-3) ? sine : Dtype(1e-3);
  if (angle.m1 == 1) {
    *cosine = c * angle.cosine - sine * angle.sine - angle.m3;
    *slope = angle.cosine + c / divisor * angle.sine;
  } else {
    // atan2 and not acos, which has lost half its digits near 1.
    const Dtype sum = angle.m1 * std::atan2(sine, c) + angle.m2;
    *cosine = std::cos(sum) - angle.m3;
    *slope = angle.m1 * std::sin(sum) / divisor;
  }
}

}  // namespace caffe

#endif  // CAFFE_UTIL_COMBINED_ANGLE_HPP_
