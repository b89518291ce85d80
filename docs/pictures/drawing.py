"""A few lines of SVG: boxes, words and arrows that are legible in light and dark."""

from __future__ import annotations

from html import escape

WIDTH = 560

STYLE = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.small { font-size: 11.5px; fill: var(--soft); }
.strong { font-weight: 600; }
.on { fill: #fff; }
.left { text-anchor: start; } .middle { text-anchor: middle; } .right { text-anchor: end; }
.card { fill: var(--card); stroke: var(--edge); }
.box { fill: var(--box); stroke: var(--edge); }
.empty { fill: none; stroke: var(--soft); stroke-dasharray: 3 3; }
.master { fill: #3f51b5; } .first { fill: #00796b; } .second { fill: #b3541e; } .third { fill: #8e3b8e; }
.aside { fill: #6b7280; }
.faint { opacity: 0.45; }
.line { stroke: var(--soft); stroke-width: 1.4; fill: none; }
.dashed { stroke-dasharray: 4 3; }
.up { stroke: #b3541e; stroke-width: 1.8; fill: none; }
.down { stroke: #3f51b5; stroke-width: 1.8; fill: none; }
#head path { fill: context-stroke; }
svg { --ink: #1f2333; --soft: #565d75; --card: #fbfbfe; --box: #e9ebf5; --edge: #c9cee2; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e8eaf4; --soft: #a9b0c8; --card: #20222e; --box: #323648; --edge: #454a61; }
  .down { stroke: #8c9eff; } .up { stroke: #ffab78; }
  .master { fill: #5668d8; }
}
"""


class Picture:
    """Adds shapes from back to front; `height` in the same units as WIDTH. Colours are classes of STYLE."""

    def __init__(self, title: str, height: int) -> None:
        self.title, self.height = title, height
        self.parts: list[str] = []
        self.box(0.5, 0.5, WIDTH - 1, height - 1, "card", 8)

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box", round: float = 3) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}" class="{kind}"/>'
        )

    def text(self, x: float, y: float, words: str, kind: str = "middle") -> None:
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words, quote=False)}</text>')

    def named(self, x: float, y: float, width: float, height: float, words: str, kind: str = "box") -> None:
        """A box with words in its middle, white ones where the box has a colour."""
        self.box(x, y, width, height, kind)
        self.text(x + width / 2, y + height / 2 + 4.5, words, "middle" if kind in ("box", "empty") else "middle on")

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str = "line") -> None:
        self.parts.append(f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="{kind}"/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float, kind: str = "line") -> None:
        self.parts.append(f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="{kind}" marker-end="url(#head)"/>')

    def svg(self) -> str:
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse" markerUnits="userSpaceOnUse"><path d="M0 0 8 4 0 8z"/></marker>'
        )
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img">'
        style = f"<style>{STYLE}</style>"
        return "\n".join(
            [opening, f"<title>{self.title}</title>", style, f"<defs>{head}</defs>", *self.parts, "</svg>\n"]
        )
