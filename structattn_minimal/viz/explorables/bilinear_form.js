export const compute = {};
export default { render({ model, el }) { el.textContent = "bilinear_form"; } };
