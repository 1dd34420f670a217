export const compute = {};
export default { render({ model, el }) { el.textContent = "prompt_reader"; } };
