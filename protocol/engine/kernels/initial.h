/* Orthogonal initial weights: a matrix of nearly normal draws, made orthonormal row by row. initial.py is the same in
   NumPy, and slow for a few networks of small arrays. In binary64. */
#pragma once
#include "layers_dense.h"

#define HALVES_MEAN 262140.0 /* of the sum of eight 16-bit numbers, and its standard deviation's inverse */
#define HALVES_SCALE (1 / 53509.91992145008)

/* Draw p is the sum of the halves of words 4p to 4p + 3 of a stream: its block p. */
static void draw_normals(const uint32_t *key, uint32_t start, int64_t count, double *to) {
  for (int64_t first = 0; first < count; first += DRAWS) {
    uint32_t block[DRAWS], word[4][DRAWS];
    for (int l = 0; l < DRAWS; l++) block[l] = start + (uint32_t)(first + l);
    philox(key, 0, block, word);
    for (int l = 0; l < DRAWS && first + l < count; l++) {
      uint32_t halves = 0;
      for (int w = 0; w < 4; w++) halves += (word[w][l] & 0xffff) + (word[w][l] >> 16);
      to[first + l] = ((double)halves - HALVES_MEAN) * HALVES_SCALE;
    }
  }
}

/* The sum of products, added by halves: a power of two of them, the second half onto the first until one is left. */
static double halving_product(const double *a, const double *b, int width, double *space) {
  for (int i = 0; i < width; i++) space[i] = a[i] * b[i];
  for (int half = width / 2; half; half /= 2)
    for (int i = 0; i < half; i++) space[i] = space[i] + space[i + half];
  return space[0];
}

/* Gram and Schmidt, modified: each row is scaled to length 1 and taken out of the rows after it. */
static void make_orthonormal(double *rows, int count, int width, double *space) {
  for (int r = 0; r < count; r++) {
    double *row = rows + (int64_t)r * width, length = sqrt(halving_product(row, row, width, space));
    for (int i = 0; i < width; i++) row[i] = row[i] / length;
    for (int s = r + 1; s < count; s++) {
      double *other = rows + (int64_t)s * width, along = halving_product(other, row, width, space);
      for (int i = 0; i < width; i++) other[i] = other[i] - along * row[i];
    }
  }
}

static int64_t orthogonal_doubles(int rows, int columns) { /* two matrices with room to the next power of two, and a row */
  int64_t least = rows < columns ? rows : columns, width = 1;
  while (width < rows || width < columns) width *= 2;
  return (int64_t)rows * columns + (least + 1) * width;
}

/* rows x columns from draw `start` on: orthonormal rows, or columns where there are more rows. */
static void draw_orthogonal(const uint32_t *key, uint32_t start, int rows, int columns, double *to, double *space) {
  int across = rows > columns, count = across ? columns : rows, length = across ? rows : columns, width = 1;
  while (width < length) width *= 2;
  double *drawn = space, *matrix = drawn + (int64_t)rows * columns, *products = matrix + (int64_t)count * width;
  int64_t down = across ? 1 : columns, along = across ? columns : 1;
  draw_normals(key, start, (int64_t)rows * columns, drawn);
  for (int r = 0; r < count; r++)
    for (int i = 0; i < width; i++) matrix[(int64_t)r * width + i] = i < length ? drawn[r * down + i * along] : 0.0;
  make_orthonormal(matrix, count, width, products);
  for (int r = 0; r < count; r++)
    for (int i = 0; i < length; i++) to[r * down + i * along] = matrix[(int64_t)r * width + i];
}
