
// ---- The playground: tiles of the sheets that are on the page, redrawn as one chooses. ----

function startPlayground() {
  const data = JSON.parse($("play-data").textContent);
  const sheets = [...document.querySelectorAll(".sheet")];
  const [model, eps] = [$("play-model"), $("play-eps")];
  let column = 0;

  function tile(canvas, row, from = sheets[model.value]) {
    const side = from.naturalHeight / data.rows.length;
    canvas.width = canvas.height = side;
    canvas.getContext("2d").drawImage(from, column * side, row * side, side, side, 0, 0, side, side);
  }

  function show() {
    const sheet = data.sheets[model.value];
    const fell = sheet.fell[column], radius = Number(eps.value);
    const far = radius ? `eps ${data.eps[radius - 1]}` : "no attack";
    $("play-far").textContent = far;
    eps.setAttribute("aria-valuetext", far);
    const attacked = fell !== null && fell >= 0 && fell < radius;
    const label = data.classes[sheet.labels[column]];
    $("play-says").textContent =
      fell === -1 ? `This ${label} is not reconstructed right without an attack, so it was not attacked.`
        : attacked ? `At ${far} this ${label} comes out as ${data.classes[sheet.became[column]] ?? "another"}; eps ${data.eps[fell]} is enough.`
          : radius ? `At ${far} no attack turned this ${label} into anything else.`
            : `Without an attack this ${label} comes out as ${label}.`;
    $("play-pictures").replaceChildren(...[0, 1, 2, 3, 4].map((row) => {
      const canvas = make("canvas", { role: "img", "aria-label": data.rows[row] });
      if (row < 2 || attacked) tile(canvas, row);
      else tile(canvas, row === 4 ? 1 : 0);
      const figure = make("figure", {}, canvas, make("figcaption", {}, data.rows[row]));
      figure.hidden = row > 1 && !attacked;
      return figure;
    }));
    for (const button of $("play-digits").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", Number(button.dataset.column) === column);
    }
  }

  function digits() {
    for (const [k, label] of data.sheets[0].labels.entries()) {
      column = k;
      const name = `${data.classes[label]}, sample ${data.sheets[0].ids[k]}`;
      const canvas = make("canvas", { "aria-hidden": "true" });
      tile(canvas, 0, sheets[0]);
      const button = make("button", { type: "button", "aria-label": name, "data-column": k }, canvas);
      button.addEventListener("click", () => { column = k; show(); });
      $("play-digits").append(button);
    }
    column = 0;
  }

  Promise.all(sheets.map((one) => one.decode())).then(() => {
    digits();
    model.addEventListener("change", show);
    eps.addEventListener("input", show);
    $("play").addEventListener("submit", (event) => event.preventDefault());
    $("play").hidden = false;
    show();
  });
}

addEventListener("DOMContentLoaded", () => { if ($("play-data")) startPlayground(); });
