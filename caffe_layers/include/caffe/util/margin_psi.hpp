#ifndef CAFFE_UTIL_MARGIN_PSI_HPP_
#define CAFFE_UTIL_MARGIN_PSI_HPP_

#include <algorithm>
#include <cmath>

// What the layers with a margin compute at the label, on the host and on the device, and the schedules of all layers
// that change the label's score.

#ifndef CAFFE_FACE_BOTH
#ifdef __CUDACC__
#define CAFFE_FACE_BOTH __host__ __device__ __forceinline__
#else
#define CAFFE_FACE_BOTH inline
#endif
#endif

namespace caffe {

/// base (1 + gamma t)^-power
inline double Annealed(double base, double gamma, double power, int t) {
  return base * std::pow(1 + gamma * t, -power);
}

inline double Radians(double degrees) { return degrees * (3.14159265358979323846 / 180); }

/**
 * @brief psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m], and its derivative by
 *        c = cos(theta), for m from 1 to 4.
 *
 * cos(m theta) is a polynomial of c, so that no angle is needed and a c beyond 1 by rounding does no harm. psi has a
 * continuous derivative: it is 0 on both sides of a k pi / m, where it does not matter which k counts.
 */
template <typename Dtype>
CAFFE_FACE_BOTH void MarginPsi(int m, Dtype c, Dtype* psi, Dtype* slope) {
  const Dtype side = c < 0 ? -1 : 1;
  const Dtype square = c * c;
  if (m == 1) {
    *psi = c;
    *slope = 1;
  } else if (m == 2) {
    *psi = 2 * side * square - 1;
    *slope = 4 * side * c;
  } else if (m == 3) {
    const Dtype sign = square < Dtype(0.25) ? -1 : 1;
    *psi = sign * c * (4 * square - 3) + side * (1 + sign) - 2;
    *slope = sign * (12 * square - 3);
  } else {
    const Dtype sign = square < Dtype(0.5) ? -side : side;
    *psi = sign * (8 * square * (square - 1) + 1) + 2 * side + sign - 3;
    *slope = sign * c * (32 * square - 16);
  }
}

/**
 * @brief The label's score s = (|x| |w| psi(theta) + lambda x.w) / (1 + lambda), and what its gradient has beyond that
 *        of x.w: ds/dx = w + across w + along_x x, ds/dw = x + across x + along_w w.
 */
template <typename Dtype>
struct LabelMargin {
  Dtype score;
  Dtype across, along_x, along_w;
};

/**
 * @brief LabelMargin from `dot` = x.w and the squares of the lengths.
 *
 * The derivative of |x| |w| psi by x is a w + b x. Without `exact` this is scaled to a^2 + b^2 = 1, as the published
 * MarginInnerProduct has it, where |w| is 1 and ds/dw is taken for x.
 */
template <typename Dtype>
CAFFE_FACE_BOTH LabelMargin<Dtype> MarginAtLabel(int m, Dtype lambda, bool exact, Dtype dot, Dtype x_square,
    Dtype w_square) {
  const Dtype lengths = std::sqrt(x_square) * std::sqrt(w_square) + Dtype(1e-9);  // cos(theta) is 0 for a zero vector
  const Dtype c = dot / lengths;
  const Dtype part = 1 / (1 + lambda);
  Dtype psi, a;
  MarginPsi(m, c, &psi, &a);
  const Dtype b = (psi - c * a) / lengths;  // where |w| is 1, or else times |w|^2
  LabelMargin<Dtype> made;
  made.score = (lengths * psi + lambda * dot) * part;
  if (exact) {
    made.across = (a - 1) * part;
    made.along_x = b * w_square * part;
    made.along_w = b * x_square * part;
  } else {
    const Dtype length = std::sqrt(a * a + b * b);  // > 0: psi is not 0 where a is
    made.across = (a / length - 1) * part;
    made.along_x = b / length * part;
    made.along_w = 0;
  }
  return made;
}

/**
 * @brief The margin m that LabelSpecificMargin adds to the angle theta of a cosine, made once a pass on the host.
 *
 * With `exact` the derivative is the gradient, and the score never rises with theta: where theta + m leaves [0, pi],
 * the cosine less max(m sin m, 1 - cos m) takes the place of cos(theta + m). The first is ArcFace's (Deng et al. 2019;
 * insightface, `easy_margin` off) and the greater one up to m = 133 degrees; beyond, it alone would let the score jump
 * up. An m of more than half a turn counts as that. Without `exact` all is as in the first version of NormFace's fork.
 */
template <typename Dtype>
struct AngularMargin {
  AngularMargin(double degrees, bool exact) : exact(exact) {
    double angle = Radians(degrees);
    if (exact) {
      angle = std::min(std::max(angle, -Radians(180)), Radians(180));
    }
    cosine = std::cos(angle);
    sine = std::sin(angle);
    positive = angle > 0;
    drop = std::max(angle * sine, 1 - std::cos(angle));
    if (!positive) {
      drop = -drop;
    }
  }

  bool exact, positive;
  Dtype cosine, sine;  // of m
  Dtype drop;  // what the score is less than the cosine beyond the half turn
};

/**
 * @brief A cosine becomes that of its angle and the margin, and `slope` the derivative of that.
 *
 * The derivative is cos m + cot(theta) sin m, with a sin(theta) of at least 1e-3, so that it is at most 1001: nearer to
 * 0 a float's cosine does not tell the angle. What reaches a feature behind a normalisation is sin(theta) times that.
 * NormFace's fork first had a minus for the plus, and no bounds.
 */
template <typename Dtype>
CAFFE_FACE_BOTH void CosineWithMargin(const AngularMargin<Dtype>& margin, Dtype* cosine, Dtype* slope) {
  const Dtype c = *cosine;
  const Dtype square = 1 - c * c;  // rounding may take it below 0
  const Dtype sine = std::sqrt((square > 0 ? square : Dtype(0)) + Dtype(1e-12));
  if (margin.exact && (margin.positive ? c <= -margin.cosine : c > margin.cosine)) {
    *cosine = c - margin.drop;
    *slope = 1;
    return;
  }
  *cosine = c * margin.cosine - sine * margin.sine;
  if (margin.exact) {
    *slope = margin.cosine + c / (sine > Dtype(1e-3) ? sine : Dtype(1e-3)) * margin.sine;
  } else {
    *slope = margin.cosine - c / sine * margin.sine;
  }
}

}  // namespace caffe

#endif  // CAFFE_UTIL_MARGIN_PSI_HPP_
