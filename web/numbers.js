// Sums over numbers, as PyTorch has them for Python.

export function dot(one, other) {
  let sum = 0;
  for (let at = 0; at < one.length; at++) sum += one[at] * other[at];
  return sum;
}

export function normalized(vector) {
  const length = Math.max(Math.sqrt(dot(vector, vector)), 1e-12);
  return vector.map((value) => value / length);
}

export function sumOfRows(values, width, from = 0, to = values.length / width) {
  const sum = new Float64Array(width);
  for (let row = from; row < to; row++) {
    for (let at = 0; at < width; at++) sum[at] += values[row * width + at];
  }
  return sum;
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

export function softmax(values) {
  const greatest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - greatest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

export function logSumExp(values) {
  const greatest = Math.max(...values);
  return greatest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
}

export const sigmoid = (value) => 1 / (1 + Math.exp(-value));

export const softplus = (value) => Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value)));

export function logOdds(probability) {
  const inside = Math.min(Math.max(probability, 1e-9), 1 - 1e-9);
  return Math.log(inside / (1 - inside));
}

// The numbers of values from the greatest to the least, equal ones in their order.
export const ranked = (values) =>
  Array.from(values, (_, row) => row).sort((one, other) => values[other] - values[one] || one - other);
