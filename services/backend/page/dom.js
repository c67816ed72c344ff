// Making elements. Text only ever gets into the page as text: there is no markup made of data.

const SVG = "http://www.w3.org/2000/svg";

/** An element with these attributes (those that are `false` or `null` are left out) and children: nodes or texts. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same, of an SVG picture. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets the text, if it is another: an unchanged one must not be read aloud again. */
export function setText(of, text) {
  if (of.textContent !== text) of.textContent = text;
}

/**
 * Makes `nodes` the children of `parent`, in this order, by moving as few as possible. What has the focus keeps it, also
 * if it moves.
 */
export function place(parent, nodes) {
  const focused = document.activeElement;
  let next = parent.firstChild;
  const wanted = new Set(nodes);
  for (const node of nodes) {
    while (next && !wanted.has(next)) {
      const unwanted = next;
      next = next.nextSibling;
      unwanted.remove();
    }
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  while (next) {
    const unwanted = next;
    next = next.nextSibling;
    unwanted.remove();
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}
