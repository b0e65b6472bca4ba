"""Draws a series of numbers as a line of text and as an SVG file."""

from html import escape

BARS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 110, 16, 36, 44


def sparkline(numbers, width=60):
    """Draws a bar for each number, or for the means of `width` equal parts if there are more numbers."""
    count = min(width, len(numbers))
    parts = [numbers[i * len(numbers) // count : (i + 1) * len(numbers) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1) * (len(BARS) - 1))] for mean in means)


def svg(path, title, x_label, y_label, xs, ys):
    """Writes a curve with axes, labelled at both ends."""
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def across(x):
        return LEFT + (x - x_low) / (x_high - x_low or 1) * (right - LEFT)

    def down(y):
        return bottom - (y - y_low) / (y_high - y_low or 1) * (bottom - TOP)

    def text(x, y, anchor, words):
        return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words)}</text>'

    curve = " ".join(f"{across(x):.2f},{down(y):.2f}" for x, y in zip(xs, ys))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>',
        f'<polyline points="{curve}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>',
        text(WIDTH / 2, 22, "middle", title),
        text(LEFT - 6, TOP + 4, "end", f"{y_high:.9f}"),
        text(LEFT - 6, bottom, "end", f"{y_low:.9f}"),
        text(LEFT - 6, (TOP + bottom) / 2, "end", y_label),
        text(LEFT, bottom + 18, "middle", f"{x_low:g}"),
        text(right, bottom + 18, "end", f"{x_high:g}"),
        text((LEFT + right) / 2, bottom + 34, "middle", x_label),
        "</svg>",
    ]
    path.write_text("\n".join(lines) + "\n")
