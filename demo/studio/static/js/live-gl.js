// The live preview drawn with WebGL2: two looks into the picture along the flow's ways, cross-faded, only in the mask.

import { KEYS } from './ages.js';

const VERTEX = `#version 300 es
in vec2 corner; out vec2 uv;
uniform vec4 box; // the part of the picture that the canvas lies on: left, top, width, height
void main() { uv = box.xy + vec2(corner.x, 1.0 - corner.y) * box.zw; gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0); }`;

// Linear in between: the mean of two pictures has less contrast than either; what differs from the local mean (a high
// level of the mipmap) is therefore weighted so that its variance stays.
const FRAGMENT = `#version 300 es
precision highp float; precision highp sampler3D;
uniform sampler2D picture, share; uniform sampler3D ways;
uniform float phase; // 0..1 of the loop
in vec2 uv; out vec4 color;
const float KEYS = ${KEYS}.0, DEPTH = ${2 * KEYS + 1}.0;
vec2 way(float age) { return texture(ways, vec3(uv, (KEYS * (1.0 + age) + 0.5) / DEPTH)).rg; }
// 1 in the picture, 0 well beyond its border, where the other look knows more; what is read there is mirrored.
float within(vec2 p) { vec2 off = abs(p - 0.5) - 0.5; return 1.0 - 0.99 * smoothstep(0.0, 0.05, max(off.x, off.y)); }
void main() {
  float a = texture(share, uv).r;
  if (a < 0.004) { color = vec4(0.0); return; }
  vec2 old = uv + way(phase), young = uv + way(phase - 1.0);
  float w = phase * phase * (3.0 - 2.0 * phase);
  float one_in = within(old) * (1.0 - w), two_in = within(young) * w;
  w = two_in / max(one_in + two_in, 1e-4);
  vec3 one = texture(picture, old).rgb, two = texture(picture, young).rgb;
  vec3 mean = mix(textureLod(picture, old, 4.0).rgb, textureLod(picture, young, 4.0).rgb, w);
  vec3 both = mean + (mix(one, two, w) - mean) / sqrt(w * w + (1.0 - w) * (1.0 - w));
  color = vec4(clamp(both, 0.0, 1.0) * a, a);
}`;

/** Draws on a canvas; null where there is no WebGL2. */
export function makeGL(canvas) {
  const gl = canvas.getContext('webgl2', { alpha: true, premultipliedAlpha: true, antialias: false, depth: false, stencil: false, desynchronized: false });
  if (!gl) return null;
  const compiled = (kind, text) => {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader) || 'no shader');
    return shader;
  };
  const program = gl.createProgram();
  try {
    gl.attachShader(program, compiled(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compiled(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  } catch (error) {
    console.warn(error);
    return null;
  }
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
  const corner = gl.getAttribLocation(program, 'corner');
  gl.enableVertexAttribArray(corner);
  gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const textures = {};
  ['picture', 'share', 'ways'].forEach((name, unit) => {
    const kind = name === 'ways' ? gl.TEXTURE_3D : gl.TEXTURE_2D;
    textures[name] = { kind, unit, texture: gl.createTexture() };
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(kind, textures[name].texture);
    const wrap = name === 'picture' ? gl.MIRRORED_REPEAT : gl.CLAMP_TO_EDGE;
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R]) if (kind === gl.TEXTURE_3D || side !== gl.TEXTURE_WRAP_R) gl.texParameteri(kind, side, wrap);
    gl.texParameteri(kind, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texParameteri(kind, gl.TEXTURE_MIN_FILTER, name === 'picture' ? gl.LINEAR_MIPMAP_LINEAR : gl.LINEAR);
    gl.uniform1i(gl.getUniformLocation(program, name), unit);
  });
  const boxAt = gl.getUniformLocation(program, 'box');
  const phaseAt = gl.getUniformLocation(program, 'phase');
  const use = (name) => gl.activeTexture(gl.TEXTURE0 + textures[name].unit);
  return {
    kind: 'webgl2',
    setPicture(source) {
      use('picture');
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, source);
      gl.generateMipmap(gl.TEXTURE_2D);
    },
    setShare({ width, height, data }) {
      use('share');
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, data);
    },
    setWays({ width, height, depth, data }) {
      use('ways');
      // Half floats: unlike full ones, they are filtered everywhere.
      gl.texImage3D(gl.TEXTURE_3D, 0, gl.RG16F, width, height, depth, 0, gl.RG, gl.FLOAT, data);
    },
    draw(phase, box) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.uniform1f(phaseAt, phase);
      gl.uniform4fv(boxAt, box);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    },
    lost: () => gl.isContextLost(),
  };
}
