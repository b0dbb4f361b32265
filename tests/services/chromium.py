"""What Chromium makes of a page: whether everything on it can be read."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

CHROMIUM_S_MAX = 120

# What does not fit, by panel: text that is cut off, labels of an axis outside of the picture or on
# top of each other, curves that are not drawn.
LOOK = """<script>
const faults = [];
for (const panel of document.querySelectorAll('.panel')) {
  const title = panel.querySelector('h2').textContent;
  const say = (what) => faults.push(title + ': ' + what);
  for (const part of panel.querySelectorAll('h2,.legend,.rows,.tiles')) {
    const name = part.className || part.tagName.toLowerCase();
    if (part.scrollWidth > part.clientWidth + 1) say(name + ' is too wide');
    if (name != 'rows' && part.scrollHeight > part.clientHeight + 1) say(name + ' is too high');
  }
  const frame = panel.getBoundingClientRect();
  for (const svg of panel.querySelectorAll('svg')) {
    const texts = [...svg.querySelectorAll('text')].map((t) => [t, t.getBoundingClientRect()]);
    for (const [t, box] of texts)
      if (box.left < frame.left || box.right > frame.right) say(t.textContent + ' is cut off');
    for (const [t, a] of texts) for (const [u, b] of texts)
      if (t !== u && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        say(t.textContent + ' covers ' + u.textContent);
    const lines = [...svg.querySelectorAll('polyline,circle')];
    if (!lines.some((line) => line.getBoundingClientRect().width > 1)) say('nothing is drawn');
  }
}
const told = document.createElement('pre');
told.id = 'faults';
told.textContent = JSON.stringify([...new Set(faults)]);
document.body.append(told);
</script>"""


def faults_of(chromium: str, page: Path, folder: Path) -> list[str]:
    """What cannot be read on a page, as Chromium lays it out."""
    looked_at = folder / f"looked-at-{page.name}"
    looked_at.write_text(page.read_text().replace("</body>", f"{LOOK}</body>"))
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1600,3000",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            looked_at.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=CHROMIUM_S_MAX,
        check=False,
    )
    found = re.search(r'<pre id="faults">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
