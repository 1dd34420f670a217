export const compute = {};
export default { render({ model, el }) { el.textContent = "rank_sphere"; } };
